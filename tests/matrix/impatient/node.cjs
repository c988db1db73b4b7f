// Loaded before a Node client: its fetch waits for the head of an answer no longer than so many seconds.
fetch("data:,").catch(() => {}); // makes the dispatcher
const key = Symbol.for("undici.globalDispatcher.1");
const { constructor } = globalThis[key];
globalThis[key] = new constructor({ headersTimeout: 1000 * Number(process.env.IMPATIENT_S) });
