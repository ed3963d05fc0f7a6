import { createServer } from "node:net";
import { EspalierError, UsageError } from "@espalier/core";

/** Servers listen here: nothing outside of this machine reaches them. */
export const loopback = "127.0.0.1";

/**
 * A port of the option `--port`.
 *
 * @throws UsageError
 */
export function parsePort(text: string): number {
  const port = Number(text);
  if (/^\d+$/.test(text) && port >= 1 && port <= 65_535) return port;
  throw new UsageError("ESPALIER_PORT", `--port: expected a number from 1 to 65535, not "${text}"`, {
    hint: "without --port a free one is taken",
  });
}

/**
 * The port to listen on: the wanted one, which must be free; else the one of the last time, if it is free, so that an
 * address stays good; else any.
 *
 * @throws EspalierError if the wanted one is taken
 */
export async function choosePort(wanted: number | undefined, last: number | undefined): Promise<number> {
  if (wanted === undefined) return (await tryPort(last ?? 0)) ?? (await tryPort(0)) ?? refuse("any port");
  return (await tryPort(wanted)) ?? refuse(`port ${wanted}`);
}

function refuse(what: string): never {
  throw new EspalierError("ESPALIER_PORT_IN_USE", `cannot listen on ${what} of ${loopback}: it is in use`, {
    hint: "give another --port, or leave it out: then a free one is taken",
  });
}

/** Listens for a moment. `null` where that is not possible. */
function tryPort(port: number): Promise<number | null> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(null));
    server.listen(port, loopback, () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address !== null ? address.port : null));
    });
  });
}
