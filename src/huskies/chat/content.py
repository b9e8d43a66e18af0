"""What a message is made of in Matrix: its content, its relations, and the name it can be found by. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from huskies.chat.formatted import Reply, fitting

# Stands in each message, the same at each attempt: by it a message is found again after a doubtful end.
DELIVERY_FIELD: Final = "dev.huskies.delivery_id"
# What answers someone; other bots do not listen to it.
NOTICE: Final = "m.notice"
# What clients draw attention to.
TEXT: Final = "m.text"

Content = dict[str, Any]


def content_of(
    reply: Reply,
    delivery_id: str,
    *,
    kind: str = NOTICE,
    edits: str | None = None,
    thread: str | None = None,
    answers: str | None = None,
) -> Content:
    """The content of a message, cut where it is too long.

    `edits` is the event that it replaces, `thread` the one that it belongs under, `answers` the one that it
    is a reply to; of several, the first one given counts.
    """
    reply = fitting(reply)
    content = {**_said(reply, kind), DELIVERY_FIELD: delivery_id}
    if edits is not None:
        # Clients that know no edits show the text itself, marked so.
        shown = Reply(f"* {reply.text}", f"* {reply.html}")
        relation: Content = {"rel_type": "m.replace", "event_id": edits}
        content = {**_said(shown, kind), DELIVERY_FIELD: delivery_id, "m.new_content": content}
    elif thread is not None:
        behind = {"event_id": answers or thread}
        relation = {
            "rel_type": "m.thread",
            "event_id": thread,
            "is_falling_back": answers is None,
            "m.in_reply_to": behind,
        }
    elif answers is not None:
        relation = {"m.in_reply_to": {"event_id": answers}}
    else:
        return content
    return {**content, "m.relates_to": relation}


def answer_id(event_id: str, part: str = "") -> str:
    """The delivery id of an answer to an event: the same whenever it is answered; `part`: of several."""
    return hashlib.sha256(f"{event_id} {part}".encode()).hexdigest()[:32]


def transaction_id(delivery_id: str) -> str:
    """What the homeserver knows two attempts of one message by."""
    return f"huskies-{delivery_id}"


def thread_of(content: Mapping[str, Any]) -> str | None:
    """The thread that a message stands in."""
    relation = content.get("m.relates_to")
    if not isinstance(relation, Mapping) or relation.get("rel_type") != "m.thread":
        return None
    event_id = relation.get("event_id")
    return event_id if isinstance(event_id, str) else None


def is_edit(content: Mapping[str, Any]) -> bool:
    """Whether it replaces an earlier message."""
    relation = content.get("m.relates_to")
    return isinstance(relation, Mapping) and relation.get("rel_type") == "m.replace"


def _said(reply: Reply, kind: str) -> Content:
    return {
        "msgtype": kind,
        "body": reply.text,
        "format": "org.matrix.custom.html",
        "formatted_body": reply.html,
        # Nobody is called by name, whatever the text holds.
        "m.mentions": {},
    }
