#!/bin/bash
# The container's first process: the project's sled and, where a key may log in, an SSH server. It ends when either
# does, and the engine starts it again. As a shell that waits, it also takes leave of processes that nobody waits for.
set -euo pipefail

identity() {
    if [ -n "$2" ]; then git config --global "$1" "$2"; fi
}

identity user.name "${HUSKIES_GIT_NAME:-}"
identity user.email "${HUSKIES_GIT_EMAIL:-}"
# The directory is the host's, and may look as if it were someone else's.
git config --global --replace-all safe.directory /work

if [ -n "${HUSKIES_SSH_KEY:-}" ]; then
    mkdir -m 700 -p "$HOME/.ssh" "$HOME/.sshd"
    printf '%s\n' "$HUSKIES_SSH_KEY" > "$HOME/.ssh/authorized_keys"
    chmod 600 "$HOME/.ssh/authorized_keys"
    # Kept in the container: it stays the same host when it is started again.
    test -f "$HOME/.sshd/ed25519" || ssh-keygen -q -t ed25519 -N '' -f "$HOME/.sshd/ed25519"
    env -u HUSKIES_SLED_TOKEN /usr/sbin/sshd -D -e -f /etc/huskies/sshd_config &
fi

huskies sled --host 0.0.0.0 --port 3001 /work &
sled=$!
stopping=
trap 'stopping=1; kill -TERM "$sled" 2>/dev/null || true' TERM INT
wait -n || true
if [ -n "$stopping" ]; then
    wait "$sled" || true
    exit 0
fi
exit 1
