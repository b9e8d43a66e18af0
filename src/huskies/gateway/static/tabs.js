// Of the tabs that nobody looks at, one streams: it says in its title and tells of what needs someone.
//
// A browser opens six connections to a host, and a stream takes one for as long as it lasts: seven tabs would
// leave none for anything else. A tab that rests goes on where it broke off, and so misses nothing.

const STREAMING = "huskies-streaming-unseen";

/** `rest()` is called where another tab streams and nobody looks at this one; `wake()` when that is over. */
export function wireTabs({ rest, wake }) {
  // Browsers lend locks to pages of https and of this machine alone: elsewhere every tab streams.
  const locks = navigator.locks;
  if (!locks) return;
  let seen = () => {};
  document.addEventListener("visibilitychange", () => {
    seen();
    seen = document.hidden ? unseen(locks, rest, wake) : () => {};
    if (!document.hidden) wake();
  });
}

/** Stream if no other does, else as soon as no other does; call what this returns when someone looks. */
function unseen(locks, rest, wake) {
  const waiting = new AbortController();
  let isOver = false;
  let letGo;
  const looked = new Promise((resolve) => (letGo = resolve));
  const inTurn = () => {
    wake();
    return looked;
  };
  locks
    .request(STREAMING, { ifAvailable: true }, (lock) => (lock ? looked : isOver || rest()))
    .then(() => isOver || locks.request(STREAMING, { signal: waiting.signal }, inTurn))
    .catch(({ name }) => name === "AbortError" || console.error(name)); // Someone looks: no turn is waited for.
  return () => {
    isOver = true;
    waiting.abort();
    letGo();
  };
}
