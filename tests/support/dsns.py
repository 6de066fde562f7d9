"""Returned mails as servers write them, and what only looks like one.

Each builder takes the address that the mail came back to, the recipient who was not there, and the
returned mail, so that tests can look for its passwords where they must not be.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable

RETURNED = b"""\
Return-Path: <bounces@foyer.example>
Received: from foyer.example by mx.foyer.example with ESMTP id 4Wq1; Tue, 2 Jun 2026 09:00:00 +0000
To: Ada Lovelace <ada@nowhere.example>
From: Foyer Communications <welcome@foyer.example>
Subject: Welcome
Message-ID: <17.0123456789abcdef@foyer.example>
MIME-Version: 1.0
Content-Type: multipart/alternative; boundary="=_foyer"

--=_foyer
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

Portal password: BouncedPasswordxyz234
550 5.1.1 this line is one of the mail, not of a server

--=_foyer--
"""
SECRET = "BouncedPasswordxyz234"


def crlf(text: str) -> bytes:
    # Lone surrogates, too: what arrives need not be UTF-8.
    return text.replace("\n", "\r\n").encode("utf-8", "surrogatepass")


def report(
    to: str,
    *,
    fields: str,
    text: str = "Your message could not be delivered.",
    sender: str = "MAILER-DAEMON@mx.example (Mail Delivery System)",
    subject: str = "Undelivered Mail Returned to Sender",
    before: str = "",
    returned: bytes = RETURNED,
    kind: str = "message/delivery-status",
) -> bytes:
    """A multipart/report around the delivery-status `fields`; `before` is a further part."""
    return (
        crlf(f"""\
Return-Path: <>
From: {sender}
To: {to}
Subject: {subject}
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
\tboundary="4Wq1.1780000000/mx.example"

This is a MIME-encapsulated message.

--4Wq1.1780000000/mx.example
Content-Description: Notification
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

{text}

{before}--4Wq1.1780000000/mx.example
Content-Description: Delivery report
Content-Type: {kind}

{fields}
--4Wq1.1780000000/mx.example
Content-Description: Undelivered Message
Content-Type: message/rfc822

""")
        + returned
        + crlf("\n--4Wq1.1780000000/mx.example--\n")
    )


def postfix(
    to: str,
    *,
    status: str = "5.1.1",
    action: str = "failed",
    words: str = "550 5.1.1 <ada@nowhere.example>: Recipient address rejected:\n"
    "    User unknown in virtual mailbox table",
    returned: bytes = RETURNED,
) -> bytes:
    return report(
        to,
        returned=returned,
        text="""\
This is the mail system at host mx.example.

I'm sorry to have to inform you that your message could not
be delivered to one or more recipients. It's attached below.

For further assistance, please send mail to postmaster.

<ada@nowhere.example>: host mail.nowhere.example[192.0.2.7] said: 550 5.1.1
    <ada@nowhere.example>: Recipient address rejected: User unknown in virtual
    mailbox table (in reply to RCPT TO command)
""",
        fields=f"""\
Reporting-MTA: dns; mx.example
X-Postfix-Queue-ID: 4Wq1
X-Postfix-Sender: rfc822; {to}
Arrival-Date: Tue,  2 Jun 2026 09:00:00 +0000 (UTC)

Final-Recipient: rfc822; ada@nowhere.example
Original-Recipient: rfc822;ada@nowhere.example
Action: {action}
Status: {status}
Remote-MTA: dns; mail.nowhere.example
Diagnostic-Code: smtp; {words}
""",
    )


def postfix_no_such_host(to: str) -> bytes:
    return report(
        to,
        fields="""\
Reporting-MTA: dns; mx.example

Final-Recipient: rfc822; ada@nowhere.example
Action: failed
Status: 5.4.4
Diagnostic-Code: X-Postfix; Host or domain name not found. Name service error
    for name=nowhere.example type=AAAA: Host not found
""",
    )


def postfix_delayed(to: str) -> bytes:
    return report(
        to,
        subject="Delayed Mail (still being retried)",
        text="####################\n# THIS IS A WARNING ONLY.  YOU DO NOT NEED TO RESEND YOUR "
        "MESSAGE. #\n####################",
        fields="""\
Reporting-MTA: dns; mx.example

Final-Recipient: rfc822; ada@nowhere.example
Action: delayed
Status: 4.4.1
Diagnostic-Code: X-Postfix; connect to mail.nowhere.example: Connection timed out
Will-Retry-Until: Sun,  7 Jun 2026 09:00:00 +0000 (UTC)
""",
    )


def delivered(to: str) -> bytes:
    return report(
        to,
        subject="Successful Mail Delivery Report",
        fields="""\
Reporting-MTA: dns; mx.example

Final-Recipient: rfc822; ada@nowhere.example
Action: delivered
Status: 2.1.5
Diagnostic-Code: smtp; 250 2.1.5 OK
""",
    )


EXIM_TEXT = """\
This message was created automatically by mail delivery software.

A message that you sent could not be delivered to one or more of its
recipients. This is a permanent error. The following address(es) failed:

  ada@nowhere.example
    host mail.nowhere.example [192.0.2.7]
    SMTP error from remote mail server after RCPT TO:<ada@nowhere.example>:
    550 No such user here

"""


def exim(to: str) -> bytes:
    """Exim since 4.86."""
    return report(
        to,
        sender="Mail Delivery System <Mailer-Daemon@mx.example>",
        subject="Mail delivery failed: returning message to sender",
        text=EXIM_TEXT,
        fields="""\
Reporting-MTA: dns; mx.example

Action: failed
Final-Recipient: rfc822;ada@nowhere.example
Status: 5.0.0
Remote-MTA: dns; mail.nowhere.example
Diagnostic-Code: smtp; 550 No such user here
""",
    )


def exim_old(to: str, told: str = "") -> bytes:
    """Exim's own layout: no MIME, the returned mail below a line."""
    return (
        crlf(f"""\
Return-path: <>
X-Failed-Recipients: ada@nowhere.example
Auto-Submitted: auto-replied
From: Mail Delivery System <Mailer-Daemon@mx.example>
To: {to}
Subject: Mail delivery failed: returning message to sender

{told or EXIM_TEXT}
------ This is a copy of the message, including all the headers. ------

""")
        + RETURNED
    )


def exim_unrouteable(to: str) -> bytes:
    return exim_old(
        to,
        "A message that you sent could not be delivered to one or more of its\n"
        "recipients. This is a permanent error. The following address(es) failed:\n\n"
        "  ada@nowhere.example\n    Unrouteable address\n",
    )


def exim_warning(to: str) -> bytes:
    return crlf(f"""\
Return-path: <>
Auto-Submitted: auto-replied
From: Mail Delivery System <Mailer-Daemon@mx.example>
To: {to}
Subject: Warning: message 1abcDE-000123-AB delayed 24 hours

This message was created automatically by mail delivery software.
A message that you sent has not yet been delivered to one or more of its
recipients after more than 24 hours on the queue on mx.example.

  ada@nowhere.example
    host mail.nowhere.example [192.0.2.7]:
    451 4.7.1 Greylisted, please try again later

No action is required on your part. Delivery attempts will continue for
some time, and this warning may be repeated at intervals if the message
remains undelivered.
""")


def exchange(
    to: str,
    *,
    status: str = "5.1.10",
    words: str = "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient ada@nowhere.example "
    "not found by SMTP address lookup",
) -> bytes:
    """Microsoft 365: HTML beside the report, an empty Return-Path, its own subject."""
    page = f"<html><body><h1>Your message couldn't be delivered</h1><p>{words}</p></body></html>"
    return report(
        to,
        sender="Microsoft Outlook <MicrosoftExchange329e71ec88ae4615@nowhere.example>",
        subject="Undeliverable: Welcome",
        text="Your message to ada@nowhere.example couldn't be delivered.\n\n"
        "ada wasn't found at nowhere.example.",
        before=f"""\
--4Wq1.1780000000/mx.example
Content-Type: text/html; charset="us-ascii"
Content-Transfer-Encoding: base64

{b64encode(page.encode()).decode()}

""",
        fields=f"""\
Reporting-MTA: dns;AM0PR0502MB3844.eurprd05.prod.outlook.com
Received-From-MTA: dns;mx.foyer.example
Arrival-Date: Tue, 2 Jun 2026 09:00:00 +0000

Final-Recipient: rfc822;ada@nowhere.example
Action: failed
Status: {status}
Diagnostic-Code: smtp;{words}
X-Display-Name: ada@nowhere.example
""",
    )


def exchange_access_denied(to: str) -> bytes:
    return exchange(
        to,
        status="5.4.1",
        words="550 5.4.1 Recipient address rejected: Access denied. AS(201806281) "
        "[DB5EUR01FT012.eop-EUR01.prod.protection.outlook.com]",
    )


def gmail(
    to: str,
    *,
    status: str = "5.1.1",
    words: str = "550-5.1.1 The email account that you tried to reach does not exist. Please try\n"
    " 550-5.1.1 double-checking the recipient's email address for typos or\n"
    " 550-5.1.1 unnecessary spaces. For more information, go to\n"
    " 550 5.1.1  https://support.google.com/mail/?p=NoSuchUser a640c23a62f3a - gsmtp",
) -> bytes:
    return report(
        to,
        sender="Mail Delivery Subsystem <mailer-daemon@googlemail.com>",
        subject="Delivery Status Notification (Failure)",
        text="** Address not found **\n\nYour message wasn't delivered to ada@nowhere.example "
        "because the address couldn't be found, or is unable to receive mail.",
        before="""\
--4Wq1.1780000000/mx.example
Content-Type: image/png; name="icon.png"
Content-Disposition: attachment; filename="icon.png"
Content-Transfer-Encoding: base64
Content-ID: <icon.png>

iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==

""",
        fields=f"""\
Reporting-MTA: dns; googlemail.com
Arrival-Date: Tue, 02 Jun 2026 02:00:00 -0700 (PDT)
X-Original-Message-ID: <17.0123456789abcdef@foyer.example>

Final-Recipient: rfc822; ada@nowhere.example
Action: failed
Status: {status}
Remote-MTA: dns; gmail-smtp-in.l.google.com. (192.0.2.26, the server for nowhere.example.)
Diagnostic-Code: smtp; {words}
Last-Attempt-Date: Tue, 02 Jun 2026 02:00:01 -0700 (PDT)
""",
    )


def sendmail(to: str) -> bytes:
    return report(
        to,
        sender="Mail Delivery Subsystem <MAILER-DAEMON@mx.example>",
        subject="Returned mail: see transcript for details",
        text="""\
The original message was received at Tue, 2 Jun 2026 09:00:00 GMT
from foyer.example [192.0.2.1]

   ----- The following addresses had permanent fatal errors -----
<ada@nowhere.example>
    (reason: 550 5.1.1 <ada@nowhere.example>... User unknown)

   ----- Transcript of session follows -----
... while talking to mail.nowhere.example.:
>>> DATA
<<< 550 5.1.1 <ada@nowhere.example>... User unknown
550 5.1.1 <ada@nowhere.example>... User unknown
""",
        fields="""\
Reporting-MTA: dns; mx.example
Received-From-MTA: DNS; foyer.example
Arrival-Date: Tue, 2 Jun 2026 09:00:00 GMT

Final-Recipient: RFC822; ada@nowhere.example
Action: failed
Status: 5.1.1
Remote-MTA: DNS; mail.nowhere.example
Last-Attempt-Date: Tue, 2 Jun 2026 09:00:01 GMT
""",
    )


def qmail(
    to: str,
    told: str = "Sorry, no mailbox here by that name. (#5.1.1)",
) -> bytes:
    """QSBMF: a text for people, and the whole mail below it."""
    return (
        crlf(f"""\
Return-Path: <>
From: MAILER-DAEMON@mx.example
To: {to}
Subject: failure notice

Hi. This is the qmail-send program at mx.example.
I'm afraid I wasn't able to deliver your message to the following addresses.
This is a permanent error; I've given up. Sorry it didn't work out.

<ada@nowhere.example>:
{told}

--- Below this line is a copy of the message.

""")
        + RETURNED
    )


def qmail_remote(to: str) -> bytes:
    return qmail(
        to,
        "192.0.2.7 does not like recipient.\n"
        "Remote host said: 550 mailbox unavailable\nGiving up on 192.0.2.7.",
    )


def internationalised(to: str) -> bytes:
    """RFC 6533, for a recipient beyond ASCII."""
    return report(
        to,
        kind="message/global-delivery-status",
        fields="""\
Reporting-MTA: dns; mx.example

Final-Recipient: utf-8; žofie@nowhere.example
Action: failed
Status: 5.1.1
Diagnostic-Code: smtp; 550 5.1.1 <žofie@nowhere.example> neexistuje
""",
    )


def encoded(to: str) -> bytes:
    """A gateway has put the report into base64."""
    fields = b64encode(
        b"Reporting-MTA: dns; mx.example\r\n\r\nFinal-Recipient: rfc822; ada@nowhere.example\r\n"
        b"Action: failed\r\nStatus: 5.1.1\r\nDiagnostic-Code: smtp; 550 5.1.1 User unknown\r\n"
    ).decode()
    return report(
        to, fields=fields, kind="message/delivery-status\nContent-Transfer-Encoding: base64"
    )


def mangled(to: str) -> bytes:
    """A report cut off in the middle of its fields, with a boundary that is never closed."""
    return postfix(to).partition(b"Action:")[0]


HARD: dict[str, Callable[[str], bytes]] = {
    each.__name__: each
    for each in (
        postfix,
        postfix_no_such_host,
        exim,
        exim_old,
        exim_unrouteable,
        exchange,
        exchange_access_denied,
        gmail,
        sendmail,
        qmail,
        qmail_remote,
        internationalised,
        encoded,
        mangled,
    )
}
"""What reports a bad address."""

SOFT: dict[str, Callable[[str], bytes]] = {
    "mailbox full": lambda to: postfix(to, status="5.2.2", words="552 5.2.2 Mailbox full"),
    "gave up": lambda to: postfix(
        to, status="4.4.1", words="connect to mail.nowhere.example: Connection timed out"
    ),
    "spam": lambda to: gmail(
        to,
        status="5.7.1",
        words="550-5.7.1 Our system has detected that this message is likely\n"
        " 550 5.7.1 unsolicited mail - gsmtp",
    ),
    "spam, vaguely": lambda to: postfix(
        to, status="5.0.0", words="550 mailbox unavailable: blocked by our spam filter"
    ),
    "too large": lambda to: exchange(
        to, status="5.3.4", words="552 5.3.4 Message size exceeds fixed limit"
    ),
    "too many": lambda to: gmail(
        to,
        status="5.2.1",
        words="550 5.2.1 The user you are trying to contact is receiving mail at a rate that",
    ),
    "sender refused": lambda to: postfix(
        to, status="5.1.0", words="550 5.1.0 Sender address does not exist"
    ),
    "bad sender": lambda to: postfix(
        to, status="5.1.8", words="553 5.1.8 Domain of sender address does not exist"
    ),
    "loop": lambda to: exchange(to, status="5.4.14", words="554 5.4.14 Hop count exceeded"),
    "no words": lambda to: report(
        to, fields="Final-Recipient: rfc822; ada@nowhere.example\nAction: failed\nStatus: 5.0.0\n"
    ),
    "queue too long": lambda to: qmail(
        to,
        "Connected to 192.0.2.7 but greeting failed.\nRemote host said: 421 Too busy\n"
        "I'm not going to try again; this message has been in the queue too long.",
    ),
}
"""What failed for reasons of its own."""


def _from_a_person(subject: str, text: str, headers: str = "") -> Callable[[str], bytes]:
    return lambda to: crlf(f"""\
Return-Path: <>
From: Ada Lovelace <ada@nowhere.example>
To: {to}
Subject: {subject}
{headers}
{text}
""")


def nested(to: str, depth: int = 10_000) -> bytes:
    """Parts within parts, as nobody writes them."""
    parts = "".join(
        f'Content-Type: multipart/mixed; boundary="b{number}"\n\n--b{number}\n'
        for number in range(depth)
    )
    return crlf(f"From: MAILER-DAEMON@mx.example\nTo: {to}\n{parts}")


def nested_mails(to: str, depth: int = 10_000) -> bytes:
    return crlf(
        f"From: MAILER-DAEMON@mx.example\nTo: {to}\n" + "Content-Type: message/rfc822\n\n" * depth
    )


NOTHING: dict[str, Callable[[str], bytes]] = {
    "delayed": postfix_delayed,
    "delivered": delivered,
    "exim's warning": exim_warning,
    "out of office": _from_a_person(
        "Automatic reply: Welcome",
        "I am away until 500 people call me. 550 5.1.1 is my favourite code.",
        "Auto-Submitted: auto-replied\nX-Auto-Response-Suppress: All\n",
    ),
    "an answer": _from_a_person("Re: Welcome", "Thank you, this could not be delivered better."),
    "a postmaster's reply": lambda to: crlf(
        f"From: postmaster@nowhere.example\nTo: {to}\nSubject: Your mail\n\nWe have received it.\n"
    ),
    "a receipt": lambda to: report(
        to,
        sender="Ada Lovelace <ada@nowhere.example>",
        kind="message/disposition-notification",
        fields="Final-Recipient: rfc822;ada@nowhere.example\n"
        "Disposition: manual-action/MDN-sent-manually; displayed\n",
    ),
    "empty": lambda _to: b"",
    "only the address": lambda to: crlf(f"To: {to}\n"),
    "zeros": lambda to: crlf(f"To: {to}\n\n") + bytes(5000),
    "binary": lambda to: crlf(f"To: {to}\n") + bytes(range(256)) * 100,
    "nested": nested,
    "nested mails": nested_mails,
    "no fields": lambda to: report(to, fields="", sender="someone@nowhere.example"),
    "fields without sense": lambda to: report(
        to, fields=":::\n : x\nAction\nStatus\n\n\nAction: \nStatus: ?\n", sender="x@y.example"
    ),
}
"""What changes nothing."""
