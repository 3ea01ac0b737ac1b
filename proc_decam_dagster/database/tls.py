"""The certificate of a cluster that listens to other machines: self-signed, made once an address."""

import ipaddress
import shutil
from datetime import UTC, datetime, timedelta

from proc_decam_dagster.database.cluster import Cluster, address
from proc_decam_dagster.database.files import write_file
from proc_decam_dagster.database.programs import ServerUser
from proc_decam_dagster.errors import SurveyError

DAYS = 3650


def ensure_certificate(cluster: Cluster, user: ServerUser) -> None:
    """Make the server's certificate and key for the address that it listens on, if they are not there.

    A copy of the certificate lies in the cluster's folder, for clients that want to pin it (``sslrootcert``).

    Raises
    ------
    SurveyError
        If neither openssl nor the Python package cryptography can be had.
    """
    host, _ = address(cluster.settings)
    made_for = cluster.data / "server.name"
    key, certificate = cluster.data / "server.key", cluster.data / "server.crt"
    if made_for.is_file() and made_for.read_text() == host and key.is_file() and certificate.is_file():
        return
    if shutil.which("openssl"):
        _with_openssl(cluster, user, host)
    else:
        _with_cryptography(cluster, host)
    write_file(made_for, host, owner=cluster.data)
    write_file(cluster.certificate, certificate.read_text(), owner=cluster.root)


def _alternative(host: str) -> str:
    try:
        return f"IP:{ipaddress.ip_address(host)}"
    except ValueError:
        return f"DNS:{host}"


def _with_openssl(cluster: Cluster, user: ServerUser, host: str) -> None:
    command = [
        shutil.which("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
        "-sha256", "-days", str(DAYS), "-subj", f"/CN={host[:64]}",
        "-addext", f"subjectAltName={_alternative(host)},DNS:localhost,IP:127.0.0.1",
        "-keyout", "server.key", "-out", "server.crt",
    ]  # fmt: skip
    done = user.run(command, cluster.data)
    if done.returncode:
        raise SurveyError(
            f"openssl made no certificate for {host}: {' '.join(done.stderr.split())[-300:]}",
            fix="give --listen an address or host name of this machine",
        )


def _with_cryptography(cluster: Cluster, host: str) -> None:
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError:
        raise SurveyError(
            "no certificate can be made", "openssl, or the Python package cryptography",
            "`apt-get install openssl`, or `pip install cryptography`",
        ) from None  # fmt: skip
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host[:64])])
    kind, _, value = _alternative(host).partition(":")
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    names.insert(0, x509.IPAddress(ipaddress.ip_address(value)) if kind == "IP" else x509.DNSName(value))
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=DAYS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    write_file(cluster.data / "server.key", private, mode=0o600, owner=cluster.data)
    public = certificate.public_bytes(serialization.Encoding.PEM).decode()
    write_file(cluster.data / "server.crt", public, mode=0o600, owner=cluster.data)
