import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";

/** How many of TensorFlow.js's own tests passed when this was written: it may only grow. */
const PASSED = 4225;

interface Summary {
  passed: number;
  failedForUs: { name: string; failures: string[] }[];
  kernels: Record<string, { passed: number; failed: number }>;
}

it("passes every test of TensorFlow.js's own suite for the kernels that it has", { timeout: 300_000 }, () => {
  const folder = mkdtempSync(join(tmpdir(), "tfjs-suite-"));
  try {
    const json = join(folder, "summary.json");
    const script = fileURLToPath(new URL("../../../scripts/test-tfjs.mjs", import.meta.url));
    const run = spawnSync(process.execPath, [script, "--backend", "libtorch", "--json", json], {
      encoding: "utf8",
    });
    expect(run.stderr).toBe("");
    const summary = JSON.parse(readFileSync(json, "utf8")) as Summary;
    expect(summary.failedForUs).toEqual([]);
    expect(run.status).toBe(0);
    expect(summary.passed).toBeGreaterThanOrEqual(PASSED);
    expect(summary.kernels.Add?.passed).toBeGreaterThan(100);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
