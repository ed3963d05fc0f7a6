import { copyFile, mkdtemp, readdir, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { expect, it } from "vitest";
import { RealServer } from "./real-server.test-support.js";
import { withMlflow } from "./with-mlflow.test-support.js";

let python: string;
withMlflow("2.22.5", async (installed) => {
  python = installed;
});

it("servers that start side by side are the first ones of an installation", async () => {
  // The same packages under another folder, where no server was started yet.
  const installation = join(dirname(python), "..");
  const folder = await mkdtemp(join(tmpdir(), "espalier-mlflow-environment-"));
  for (const part of ["bin", "lib"]) await symlink(join(installation, part), join(folder, part));
  await copyFile(join(installation, "pyvenv.cfg"), join(folder, "pyvenv.cfg"));
  const started: RealServer[] = [];
  try {
    const first = join(folder, "bin", "python");
    const starts = await Promise.allSettled([RealServer.start(first), RealServer.start(first)]);
    for (const start of starts) if (start.status === "fulfilled") started.push(start.value);
    expect(starts.map(({ status }) => status)).toEqual(["fulfilled", "fulfilled"]);
    const entries = await readdir(folder);
    expect(entries.filter((entry) => entry.startsWith("espalier-"))).toEqual(["espalier-empty.db"]);
  } finally {
    for (const server of started) await server.stop();
    await rm(folder, { recursive: true, force: true });
  }
});
