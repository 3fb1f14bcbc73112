"""receive_aiosmtpd — an aiosmtpd server that takes every message on 127.0.0.1:PORT into a Maildir.

    receive_aiosmtpd.py DIR PORT

It stores what came over the wire octet for octet below DIR/maildir, under a Return-Path and a
Delivered-To line, and is stricter than real servers: a message with a bare CR or LF, a NUL or a line
above 998 octets is refused with 554, so that such a message counts as missing. Runs in the
foreground until it is killed.
"""

import asyncio
import pathlib
import re
import sys

from aiosmtpd.smtp import SMTP

BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n|\0")
LINE_MAX = 998  # RFC 5322 2.1.1


def fault(content):
    """What is wrong with the form of a message, or None."""
    if BARE.search(content):
        return "554 5.6.0 bare CR, bare LF or NUL in the message"
    if max(map(len, content.split(b"\r\n"))) > LINE_MAX:
        return "554 5.6.0 line above 998 octets"
    return None


class Keep:
    """Stores accepted messages; the file name is a counter, unique within one run."""

    def __init__(self, maildir):
        self.maildir = maildir
        self.count = 0
        for sub in ("cur", "new", "tmp"):
            (maildir / sub).mkdir(parents=True, exist_ok=True)

    async def handle_DATA(self, server, session, envelope):
        refusal = fault(envelope.content)
        if refusal:
            return refusal
        self.count += 1
        name = f"{self.count:08}"
        head = f"Return-Path: <{envelope.mail_from}>\r\nDelivered-To: {envelope.rcpt_tos[0]}\r\n"
        written = self.maildir / "tmp" / name
        written.write_bytes(head.encode() + envelope.content)
        written.rename(self.maildir / "new" / name)
        return f"250 2.0.0 kept as {name}"


async def main(directory, port):
    keep = Keep(pathlib.Path(directory) / "maildir")
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(keep, hostname="aiosmtpd.receiver.example", loop=loop), "127.0.0.1", port
    )
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
