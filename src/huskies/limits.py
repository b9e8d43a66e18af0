"""Every limit of the product, each with its reason. Times are seconds unless the name says otherwise."""

from __future__ import annotations

from typing import Final

# --- text (SPEC 6) ---------------------------------------------------------------------------------
STORY_ID_MAX: Final = 256
STORY_NAME_MAX: Final = 1_024
REASON_MAX: Final = 16_384
STAGE_MAX: Final = 64
AGENT_NAME_MAX: Final = 256
PROJECT_NAME_MAX: Final = 64
# The last moment an ECMAScript Date can hold: a dashboard must be able to show every accepted time.
TIMESTAMP_MS_MAX: Final = 8_640_000_000_000_000

# --- relay protocol (SPEC 5) -----------------------------------------------------------------------
FRAME_BYTES_MAX: Final = 1 << 20
BATCH_EVENTS_MAX: Final = 1_000
# Room for the frame around the events, so that a full batch stays under FRAME_BYTES_MAX.
BATCH_BYTES_MAX: Final = FRAME_BYTES_MAX - 4_096
MAX_IN_FLIGHT: Final = 5_000
EPOCH_HEX_MIN: Final = 16
EPOCH_HEX_MAX: Final = 64
# `previous` names the epochs since the gateway last knew the sled; a sled that opened more than this
# without ever being welcomed is broken.
PREVIOUS_EPOCHS_MAX: Final = 1_000
PING_INTERVAL: Final = 15.0
SILENCE_LIMIT: Final = 45.0
GREETING_LIMIT: Final = 10.0
ACK_LIMIT: Final = 30.0
CLOSE_LIMIT: Final = 1.0

# --- reconnecting (SPEC 3) -------------------------------------------------------------------------
BACKOFF_FIRST: Final = 1.0
BACKOFF_MAX: Final = 60.0
# A quarter to each side: a thousand sleds that lost the same gateway return over half a second at
# first, and over 24 s once the delay is at its longest.
BACKOFF_JITTER: Final = 0.25
# How often a sled that is connected to a later gateway of its list asks whether an earlier one is ready
# again, and how long it waits for the answer. One that is ready and then takes nothing is returned to after
# twice as long each time, up to half an hour.
RETURN_INTERVAL: Final = 30.0
RETURN_INTERVAL_MAX: Final = 1_800.0
READY_LIMIT: Final = 5.0
# How long a session that is left waits for the acks of what it sent; what has none is sent again elsewhere.
LEAVE_LIMIT: Final = 5.0

# --- join tokens (SPEC 4) --------------------------------------------------------------------------
JOIN_TOKEN_BYTES: Final = 32
JOIN_TOKEN_LIFETIME: Final = 60.0
# Each outstanding token costs about 200 bytes; ten thousand sleds returning at once need one each.
JOIN_TOKENS_MAX: Final = 50_000

# --- who may what ----------------------------------------------------------------------------------
# Secrets that were tried and are none, from one address; further ones are refused without a word in log and
# audit. Guessing 256 bits is hopeless: this keeps short what it leaves behind. A good one is always let in.
FAILED_LOGINS_MAX: Final = 20
FAILED_LOGINS_WITHIN: Final = 60.0
# Refusals of one address within that time that are said in log and audit.
REFUSALS_SAID: Final = 100
# How long a failed login waits for its answer.
FAILED_LOGIN_DELAY: Final = 1.0
LOGIN_LIFETIME_MS: Final = 7 * 24 * 3_600_000
# Sessions of one token that are kept, the newest.
LOGINS_A_TOKEN: Final = 50
# How long a connection may have no request under way, one that does not get ready included; and how long the
# body of one may take.
REQUEST_LIMIT: Final = 30.0
BODY_LIMIT: Final = 10.0
# Requests under way from one address that is not this machine, connections of sleds and streams included: a
# team behind one router has fifty sleds, not thousands.
REQUESTS_PER_ADDRESS: Final = 1_000
# What begins a connection of a sled, from one address that is not this machine: so many at once, and so many
# a second from then on. A sled asks for a token and then connects: two each time.
HANDSHAKES_AT_ONCE: Final = 10_000
HANDSHAKES_A_SECOND: Final = 100
# Streams at once: beyond what the slowest thousand may hold of memory each, and still bounded.
READERS_MAX: Final = 5_000
# What revoking ends is ended within so long.
ACCESS_POLL: Final = 1.0

# --- quota -----------------------------------------------------------------------------------------
# A project takes at most this part of the disk that the log is on, unless a setting says otherwise.
QUOTA_OF_DISK: Final = 10
# What a sequence is counted as: its row, and what is in memory of it while the gateway runs.
SEQUENCE_BYTES: Final = 16 << 10
# Stories of one project on the board, which is in memory.
STORIES_MAX: Final = 100_000
# Greetings of one project: so many at once, and so many a second from then on. A sled greets once a session.
GREETINGS_AT_ONCE: Final = 1_000
GREETINGS_A_SECOND: Final = 20
# Stories in the snapshots of a project: so many at once, and so many a second from then on, where the newest
# snapshot alone waits. A sled says one when it connects, and each hour.
SNAPSHOT_STORIES_AT_ONCE: Final = 20_000
SNAPSHOT_STORIES_A_SECOND: Final = 500
# Sleds of one project at once; there is one for each of its machines and containers.
CONNECTIONS_PER_PROJECT: Final = 500
# Pings of a sled between two of its frames; each side sends one every fifteen seconds.
PINGS_MAX: Final = 1_000
# Sleds of one project that may be cut off for a flood of them within a minute before all have to wait.
FLOODS_MAX: Final = 3
FLOODS_WITHIN: Final = 60.0

# --- the log ---------------------------------------------------------------------------------------
# One row of the log. Small enough that reading one event decodes little, large enough that a row's
# overhead vanishes.
BLOCK_EVENTS_MAX: Final = 256
# One commit: bounds how long an ack can wait behind other sleds' events.
COMMIT_EVENTS_MAX: Final = 10_000
COMMIT_BYTES_MAX: Final = 8 << 20
# What a sled that pushes much hands to the log at a time, while others push little: see `gateway.fairness`.
PIECE_EVENTS: Final = 128
PIECE_BYTES: Final = 32 << 10
# Of one project, taken and not committed; beyond it the gateway stops reading from its sleds' sockets. Who
# comes new waits for no more than that: a fifth of a second of a slow disk.
IN_FLIGHT_BYTES_MAX: Final = 2 << 20
# Accepted but not yet committed, over all sleds; beyond it the gateway stops reading from sockets.
PENDING_EVENTS_MAX: Final = 100_000
PENDING_BYTES_MAX: Final = 64 << 20

# --- gateways among each other ---------------------------------------------------------------------
# A frame ends once it holds so much; one block of the largest events may be several times that.
PEER_FRAME_BYTES: Final = 512 << 10
# Where a frame was not acknowledged in time, until everything is: a single block on most days.
PEER_FRAME_BYTES_SLOW: Final = 8 << 10
PEER_FRAME_BYTES_MAX: Final = 32 << 20
# Sent and not acknowledged: enough that a fast peer never waits for us, and bounded where it does not read.
PEER_IN_FLIGHT_BYTES: Final = 16 << 20

# How long a gateway with an empty log waits for another one before it takes sleds.
REFILL_PATIENCE: Final = 30.0
# How long the beginning of a sequence is waited for that one other gateway retains no more and another may:
# less than the above, so that what there is comes in time.
BASE_PATIENCE: Final = 15.0
# How long other gateways have to say how far they hold an epoch: the sled waits for a welcome meanwhile.
# Questions at a time from one of them.
ASK_LIMIT: Final = 5.0
ASKS_AT_ONCE: Final = 1_000
ASKED_MAX: Final = 1_000
# Events asked for at a time to repair a damaged block: more than a run of one can have.
FETCH_EVENTS_MAX: Final = 2_000
# How long another gateway has for that, and how often damage is looked after.
FETCH_LIMIT: Final = 10.0
MEND_INTERVAL: Final = 5.0

# --- readers ---------------------------------------------------------------------------------------
PAGE_EVENTS_MAX: Final = 1_000
PAGE_EVENTS_DEFAULT: Final = 100
# How many events one request may look at before it answers with what it has and a `next`.
SCAN_EVENTS_MAX: Final = 200_000
STREAM_ID_INTERVAL: Final = 15.0
# What one reader holds of the log while it takes it: a thousand of the slowest cost half a gigabyte.
READER_BYTES_MAX: Final = 512 << 10
# A reader that takes nothing for this long is disconnected; it resumes from its cursor.
SLOW_READER_LIMIT: Final = 10.0
# Recent events kept in memory for live readers; older ones are read from the log.
RECENT_EVENTS_MAX: Final = 50_000
RECENT_BYTES_MAX: Final = 32 << 20

# --- the sled --------------------------------------------------------------------------------------
SUBSCRIBER_QUEUE_MAX: Final = 1_000
FRONT_MATTER_BYTES_MAX: Final = 64 << 10
# How long acknowledged events stay in the outbox unless a setting says otherwise: pollers read them, and a
# gateway that was restored from a backup, or took over from another, asks for them again. Time alone bounds
# them: whatever also bounded their number would break that promise when it is needed most.
KEEP_ACKED_MS: Final = 7 * 24 * 3_600_000
# On how many gateways a sled may want an event to be before it forgets it.
COPIES_MAX: Final = 100
EVENT_BODY_BYTES_MAX: Final = 256 << 10
RECENT_POLL_EVENTS_MAX: Final = 10_000

# --- the chat bot ----------------------------------------------------------------------------------
# A command that was sent longer ago is history: whoever asked has gone on.
COMMAND_AGE_MAX_MS: Final = 5 * 60_000
# Between taking a command and beginning it, others may be under way.
COMMAND_WAIT_MAX_MS: Final = 60_000
# How long an answer is tried to be delivered. The homeserver knows two attempts of one message for a day.
ANSWER_AGE_MAX_MS: Final = 12 * 3_600_000
# How long someone may think about whether a project is to be removed.
CONFIRM_LIMIT: Final = 60.0
COMMANDS_AT_ONCE: Final = 8
# Of a message's text and HTML together, as JSON. An event may have 64 KiB; an edit says everything twice, and
# encryption takes a third more.
MESSAGE_BYTES_MAX: Final = 20_000

# --- the processes ---------------------------------------------------------------------------------
SHUTDOWN_LIMIT: Final = 5.0
