"""Where failures are told beside the log: Slack, a webhook, e-mail; each only if the environment configures it.

Addresses of webhooks and passwords are secrets: no message, log or `repr` holds them.
"""

import http.client
import json
import os
import smtplib
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any

from proc_decam_dagster.errors import SurveyError

TIMEOUT_SECONDS = 10


@dataclass(frozen=True)
class Mail:
    """An outgoing mail server, and from and to whom; a password is sent over TLS or not at all."""

    server: str
    sender: str
    to: str
    user: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True)
class Channels:
    """The channels that are configured; empty ones are off."""

    slack: str = field(default="", repr=False)
    webhook: str = field(default="", repr=False)
    mail: Mail | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Channels":
        """Return what ``PROC_DECAM_{SLACK_WEBHOOK,WEBHOOK,SMTP,MAIL_TO,MAIL_FROM,SMTP_USER,SMTP_PASSWORD}`` configure.

        Raises
        ------
        SurveyError
            If mail is configured by halves.
        """

        def get(name: str) -> str:
            return environment.get(f"PROC_DECAM_{name}", "").strip()

        mail = None
        if get("SMTP") or get("MAIL_TO"):
            if not (get("SMTP") and get("MAIL_TO")):
                raise SurveyError("mail is configured by halves", "PROC_DECAM_SMTP (HOST:PORT) and PROC_DECAM_MAIL_TO")
            sender = get("MAIL_FROM") or get("MAIL_TO").split(",")[0]
            mail = Mail(get("SMTP"), sender, get("MAIL_TO"), get("SMTP_USER"), get("SMTP_PASSWORD"))
        return cls(get("SLACK_WEBHOOK"), get("WEBHOOK"), mail)

    def tell(self, subject: str, text: str, facts: Mapping[str, Any]) -> dict[str, str]:
        """Send a message through every channel.

        Parameters
        ----------
        subject, text : `str`
            One line, and all of it.
        facts : `~collections.abc.Mapping`
            The same for programs: the body of the webhook, JSON-friendly.

        Returns
        -------
        outcome : `dict` [`str`, `str`]
            Channel → why it failed; empty if it was told.
        """
        ways: dict[str, Callable[[], object]] = {}
        if self.slack:
            ways["Slack"] = lambda: _post(self.slack, {"text": text})
        if self.webhook:
            ways["webhook"] = lambda: _post(self.webhook, facts)
        if self.mail:
            ways["e-mail"] = lambda: _send(self.mail, subject, text)
        return {name: _why_not(way) for name, way in ways.items()}


def _why_not(way: Callable[[], object]) -> str:
    """Try a channel; return in words that hold no secret why it failed, or nothing."""
    try:
        way()
    except urllib.error.HTTPError as error:
        return f"answered {error.code}"
    except smtplib.SMTPResponseException as error:
        return f"the mail server answered {error.smtp_code}"
    except (OSError, ValueError, http.client.HTTPException, smtplib.SMTPException) as error:
        # Not its text: that of a malformed address is the address.
        reason = getattr(error, "reason", None)
        return f"not reached ({type(reason if isinstance(reason, Exception) else error).__name__})"
    except SurveyError as error:
        return str(error)
    return ""


def _post(url: str, body: Mapping[str, Any]) -> None:
    data = json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS):
        pass


def _send(mail: Mail, subject: str, text: str) -> None:
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = subject, mail.sender, mail.to
    message.set_content(text)
    host, _, port = mail.server.partition(":")
    with smtplib.SMTP(host, int(port or 25), timeout=TIMEOUT_SECONDS) as server:
        server.ehlo()
        if server.has_extn("starttls"):
            server.starttls()
            server.ehlo()
        elif mail.password:
            raise SurveyError("the mail server offers no TLS", "STARTTLS: the password is not sent in the clear")
        if mail.password:
            server.login(mail.user, mail.password)
        server.send_message(message)
