import { execFileSync } from "node:child_process";
import { mkdir, mkdtemp, open, readdir, readFile, readlink, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { blockBytes, writeLargeFile } from "./large-file.js";
import { canMount } from "./mount.test-support.js";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "large-file-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** Bytes that differ from place to place. */
function content(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let index = 0; index < length; index++) bytes[index] = Math.imul(index, 2_654_435_761) >>> 24;
  return bytes;
}

/** One piece after another through the same buffer, as a reader gives them. */
async function* inPieces(bytes: Uint8Array, length: number): AsyncGenerator<Uint8Array> {
  const buffer = new Uint8Array(length);
  for (let begin = 0; begin < bytes.byteLength; begin += length) {
    const piece = bytes.subarray(begin, begin + length);
    buffer.set(piece);
    yield buffer.subarray(0, piece.byteLength);
    buffer.fill(255);
  }
}

async function written(path: string, bytes: Uint8Array, pieceLength: number): Promise<Buffer> {
  const file = await open(path, "w");
  try {
    await writeLargeFile(file, path, inPieces(bytes, pieceLength));
    await file.sync();
  } finally {
    await file.close();
  }
  return readFile(path);
}

describe("a large file", () => {
  it.each([0, 1, blockBytes - 1, blockBytes, blockBytes + 1, 5 * blockBytes + 4097])(
    "of %i bytes has every one in its place",
    async (length) => {
      const bytes = content(length);
      // Pieces that end within a block, and ones that are longer than two.
      for (const pieceLength of [1_000_003, 2 * blockBytes + 5])
        expect(bytes.equals(await written(join(folder, "large"), bytes, pieceLength))).toBe(true);
    },
  );

  it.runIf(process.platform === "linux")("tells that the disk is full, and leaves no file open", async () => {
    await expect(written("/dev/full", content(3 * blockBytes), blockBytes)).rejects.toMatchObject({
      code: "ENOSPC",
    });
    const descriptors = `/proc/${process.pid}/fd`;
    const open = (await readdir(descriptors)).map((entry) =>
      readlink(join(descriptors, entry)).catch(() => ""),
    );
    expect(await Promise.all(open)).not.toContain("/dev/full");
  });

  it("passes on what its pieces fail with", async () => {
    const path = join(folder, "interrupted");
    async function* failing(): AsyncGenerator<Uint8Array> {
      yield content(blockBytes);
      throw new Error("the source ended");
    }
    const file = await open(path, "w");
    await expect(writeLargeFile(file, path, failing())).rejects.toThrow("the source ended");
    await file.close();
  });

  it.runIf(canMount(["-t", "ramfs"]))("is written where the page cache cannot be passed by", async () => {
    const mounted = join(folder, "ramfs");
    await mkdir(mounted);
    execFileSync("mount", ["-t", "ramfs", "none", mounted]);
    try {
      const bytes = content(2 * blockBytes + 10);
      expect(bytes.equals(await written(join(mounted, "large"), bytes, 1_000_003))).toBe(true);
    } finally {
      execFileSync("umount", [mounted]);
    }
  });
});
