"""Messages through Slack, a webhook and e-mail, against servers of this machine; secrets stay secret."""

import logging

import pytest

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.sensors.channels import Channels

FACTS = {"run": "1a2b", "cause": "no bias"}


def test_off_by_default():
    channels = Channels.from_environment({})
    assert channels == Channels() and channels.tell("subject", "text", FACTS) == {}


def test_slack_gets_the_text_and_a_webhook_the_facts(web):
    channels = Channels.from_environment(
        {"PROC_DECAM_SLACK_WEBHOOK": web.url + "/services/T1", "PROC_DECAM_WEBHOOK": web.url + "/hook"}
    )
    assert channels.tell("subject", "the text", FACTS) == {"Slack": "", "webhook": ""}
    assert web.got == [("/services/T1", {"text": "the text"}), ("/hook", FACTS)]


def test_mail(post):
    channels = Channels.from_environment({"PROC_DECAM_SMTP": post.address, "PROC_DECAM_MAIL_TO": "a@x.org,b@x.org"})
    assert channels.tell("bias failed", "no zeros", FACTS) == {"e-mail": ""}
    sent = b"".join(post.got).decode()
    assert "Subject: bias failed" in sent and "no zeros" in sent
    assert sent.lower().count("rcpt to:") == 2 and "from:<a@x.org>" in sent.lower()


def test_a_password_is_not_sent_in_the_clear(post):
    environment = {"PROC_DECAM_SMTP": post.address, "PROC_DECAM_MAIL_TO": "a@x.org", "PROC_DECAM_SMTP_USER": "team",
                   "PROC_DECAM_SMTP_PASSWORD": "hunter2"}  # fmt: skip
    (why_not,) = Channels.from_environment(environment).tell("s", "t", FACTS).values()
    assert "no TLS" in why_not
    assert not [line for line in post.got if line.upper().startswith((b"AUTH", b"MAIL"))]
    assert post.got


def test_one_that_fails_keeps_no_other_from_being_told(web):
    channels = Channels.from_environment(
        {"PROC_DECAM_SLACK_WEBHOOK": web.url + "/broken/s3cret", "PROC_DECAM_WEBHOOK": web.url + "/hook"}
    )
    assert channels.tell("s", "t", FACTS) == {"Slack": "answered 500", "webhook": ""}


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1:9/s3cret", "hooks.example.org/s3cret", "http://x.invalid/s3cret", "http://a:b c/s3cret"],
)
def test_no_message_holds_a_secret(address, caplog):
    environment = {"PROC_DECAM_SLACK_WEBHOOK": address, "PROC_DECAM_SMTP": "127.0.0.1:9",
                   "PROC_DECAM_MAIL_TO": "a@x.org", "PROC_DECAM_SMTP_PASSWORD": "hunter2"}  # fmt: skip
    channels = Channels.from_environment(environment)
    with caplog.at_level(logging.DEBUG):
        told = channels.tell("s", "t", FACTS)
    assert told["Slack"].startswith("not reached") and told["e-mail"] == "not reached (ConnectionRefusedError)"
    assert not [t for t in (repr(channels), str(told), caplog.text) if "s3cret" in t or "hunter2" in t]


def test_mail_by_halves_is_refused():
    with pytest.raises(SurveyError, match="by halves; expected PROC_DECAM_SMTP .* and PROC_DECAM_MAIL_TO"):
        Channels.from_environment({"PROC_DECAM_SMTP": "localhost"})
