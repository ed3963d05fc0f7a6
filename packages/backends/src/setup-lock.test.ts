import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { withSetupLock } from "./setup-lock.js";

let home: string;
let lock: string;

beforeEach(() => {
  home = mkdtempSync(path.join(os.tmpdir(), "espalier-lock-"));
  lock = path.join(home, ".espalier", "setup.lock");
  vi.stubEnv("ESPALIER_HOME", home);
});

afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(home, { recursive: true, force: true });
});

test("one at a time; the one that waits says so", async () => {
  const order: string[] = [];
  const said: string[] = [];
  const first = withSetupLock(
    () => undefined,
    async () => {
      order.push("first begins");
      await sleep(300);
      order.push("first ends");
    },
  );
  await sleep(50);
  const second = withSetupLock(
    (line) => said.push(line),
    async () => {
      order.push("second begins");
    },
  );
  await Promise.all([first, second]);
  expect(order).toEqual(["first begins", "first ends", "second begins"]);
  expect(said).toEqual([`another set-up is running (process ${process.pid}), waiting for it`]);
  expect(existsSync(lock)).toBe(false);
});

test("a lock whose owner is gone is taken over", async () => {
  const { pid } = spawnSync(process.execPath, ["-e", ""]); // has ended
  mkdirSync(path.dirname(lock), { recursive: true });
  writeFileSync(lock, String(pid));
  expect(
    await withSetupLock(
      () => undefined,
      async () => "done",
    ),
  ).toBe("done");
});

test("a failure frees the lock", async () => {
  await expect(
    withSetupLock(
      () => undefined,
      async () => {
        throw new Error("broken");
      },
    ),
  ).rejects.toThrow("broken");
  expect(existsSync(lock)).toBe(false);
});

test("a folder that cannot be written is named", async () => {
  const file = path.join(home, "file");
  writeFileSync(file, "");
  chmodSync(file, 0o444);
  vi.stubEnv("ESPALIER_HOME", file); // no folder can be made below a file
  await expect(
    withSetupLock(
      () => undefined,
      async () => "done",
    ),
  ).rejects.toMatchObject({
    code: "ESPALIER_BACKENDS_READ_ONLY",
    hint: expect.stringContaining("ESPALIER_HOME"),
  });
});
