// One stream of snapshots, and coming back by itself when it breaks.

import { Refused, ask, events } from "./api.js";
import { byId, say } from "./dom.js";

const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 15000;
/** Milliseconds without a snapshot after which a stream counts as broken; there is one every second. */
const SILENCE = 10000;

/** Call `onSnapshot` with each snapshot, for ever. */
export async function live(onSnapshot) {
  let pause = FIRST_PAUSE;
  for (;;) {
    await isVisible();
    const stream = new AbortController();
    const hide = () => document.hidden && stream.abort();
    document.addEventListener("visibilitychange", hide);
    let silence;
    let why = "connection lost";
    try {
      const response = await ask("api/v1/events", { signal: stream.signal });
      for await (const { data } of events(response)) {
        clearTimeout(silence);
        silence = setTimeout(() => stream.abort(), SILENCE);
        pause = FIRST_PAUSE;
        show("live", "live");
        onSnapshot(JSON.parse(data));
      }
    } catch (error) {
      if (error instanceof Refused) why = error.message;
      else if (error.name !== "AbortError" && !(error instanceof TypeError)) console.info(`event stream: ${error.message}`);
    } finally {
      clearTimeout(silence);
      document.removeEventListener("visibilitychange", hide);
    }
    if (document.hidden) continue; // nobody looks, so nothing need be made for this page
    await rest(pause, why);
    pause = Math.min(pause * 2, LONGEST_PAUSE);
  }
}

async function isVisible() {
  while (document.hidden) {
    await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
  }
}

/** Wait, and say why and for how long; a click on the button, or the network's return, ends it. */
function rest(milliseconds, why) {
  const until = Date.now() + milliseconds;
  const retry = byId("retry");
  retry.hidden = false;
  show("lost", milliseconds < 1000 ? `${why}, trying again` : `${why}, next try in ${Math.ceil(milliseconds / 1000)} s`);
  return new Promise((resolve) => {
    const end = () => {
      clearInterval(tick);
      window.removeEventListener("online", end);
      retry.hidden = true;
      show("connecting", "connecting again");
      resolve();
    };
    // The text changes only where a screen reader should say it: at the start of a pause.
    const tick = setInterval(() => Date.now() >= until && end(), 100);
    window.addEventListener("online", end);
    retry.onclick = end;
  });
}

function show(state, text) {
  const link = byId("link");
  say(link, text);
  link.dataset.state = state;
  document.body.classList.toggle("stale", state !== "live");
}
