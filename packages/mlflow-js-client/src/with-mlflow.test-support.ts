import { afterAll, beforeAll, beforeEach } from "vitest";
import { installMlflow, RealServer, type serverVersions } from "./real-server.test-support.js";

/** The versions that are tested against. */
type Version = keyof typeof serverVersions;

/**
 * Installs a real MLflow for the tests of the surrounding block; where that cannot be, they are skipped with the reason.
 *
 * @param prepare runs once, before the first of them, with the Python of that installation
 */
export function withMlflow(version: Version, prepare: (python: string) => Promise<void>): void {
  let missing: string | undefined;
  beforeAll(async () => {
    const installation = await installMlflow(version);
    if ("missing" in installation) {
      missing = installation.missing;
      console.warn(`skipped: ${missing}`);
    } else await prepare(installation.python);
  }, 900_000);
  beforeEach(({ skip }) => {
    skip(missing !== undefined, missing);
  });
}

/**
 * A real MLflow server for the tests of the surrounding block, stopped after them: `withMlflow`, and a server.
 *
 * @param prepare runs once, when the server is up
 */
export function withMlflowServer(
  version: Version,
  prepare: (server: RealServer) => Promise<void> = async () => undefined,
): { readonly server: RealServer } {
  let server: RealServer | undefined;
  withMlflow(version, async (python) => {
    server = await RealServer.start(python);
    await prepare(server);
  });
  afterAll(() => server?.stop());
  return {
    get server() {
      if (server === undefined) throw new Error("the MLflow server is not up yet");
      return server;
    },
  };
}
