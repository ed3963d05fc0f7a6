import { mkdtemp, open, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { EarlyWriteBack } from "./durable-files.js";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "durable-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const mebibyte = 2 ** 20;

describe("a large file that goes to the disk while it is written", () => {
  it("has every byte in its place", async () => {
    const path = join(folder, "large");
    const file = await open(path, "w");
    const data = new EarlyWriteBack(file);
    const pieces = 70;
    for (let index = 0; index < pieces; index++) await data.write(new Uint8Array(mebibyte).fill(index));
    await data.end();
    await file.close();
    const read = await readFile(path);
    expect(read.byteLength).toBe(pieces * mebibyte);
    for (let index = 0; index < pieces; index++)
      expect(
        read.subarray(index * mebibyte, (index + 1) * mebibyte).equals(Buffer.alloc(mebibyte, index)),
      ).toBe(true);
  });

  it.runIf(process.platform === "linux")(
    "tells a failure of the disk, which the system tells only once",
    async () => {
      // A device that takes every write and cannot be synchronized.
      const file = await open("/dev/null", "w");
      const data = new EarlyWriteBack(file);
      for (let index = 0; index < 32; index++) await data.write(new Uint8Array(mebibyte));
      await expect(data.end()).rejects.toMatchObject({ code: "EINVAL", syscall: "fdatasync" });
      await expect(data.write(new Uint8Array(1))).rejects.toMatchObject({ code: "EINVAL" });
      await file.close();
    },
  );
});
