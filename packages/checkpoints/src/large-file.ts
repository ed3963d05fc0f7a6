import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { systemCode } from "./file-failures.js";

/** What is handed to the disk at once, in bytes: a multiple of every page and sector size in use. */
export const blockBytes = 2 ** 22;

/**
 * Writes a large file from pieces, in order and past the page cache where the file system can (Linux's `O_DIRECT`): the
 * disk works from the first block on, the fsync at the end has nothing left to wait for, and the training data stay in
 * the cache. Elsewhere it is written like any other.
 *
 * @param file open for writing, empty; the caller syncs and closes it
 * @param path where it lies
 * @param pieces its bytes; each is valid until the next is asked for
 * @throws what the system answers
 */
export async function writeLargeFile(
  file: FileHandle,
  path: string,
  pieces: AsyncIterable<Uint8Array>,
): Promise<void> {
  // Two blocks in turn: one is filled while the disk takes the other.
  let [block, other] = pageAlignedBlocks();
  let filled = 0;
  let position = 0;
  const uncached = await openUncached(path);
  let target = uncached ?? file;
  let writing = Promise.resolve();
  const writeBlock = async (bytes: Uint8Array, at: number): Promise<void> => {
    try {
      await writeAt(target, bytes, at);
    } catch (error) {
      // Some file systems open such a file and refuse to write it.
      if (target === file || systemCode(error) !== "EINVAL") throw error;
      target = file;
      await writeAt(file, bytes, at);
    }
  };
  try {
    for await (const piece of pieces)
      for (let taken = 0; taken < piece.byteLength; ) {
        const part = piece.subarray(taken, taken + blockBytes - filled);
        block.set(part, filled);
        taken += part.byteLength;
        filled += part.byteLength;
        if (filled < blockBytes) continue;
        await writing;
        writing = writeBlock(block, position);
        // A failure is told when the next block is full, or at the end.
        writing.catch(() => undefined);
        position += blockBytes;
        filled = 0;
        [block, other] = [other, block];
      }
    await writing;
    // What does not fill a block may have any length, which only the page cache takes.
    await writeAt(file, block.subarray(0, filled), position);
  } finally {
    await writing.catch(() => undefined);
    await uncached?.close();
  }
}

/** Writes all bytes; a single write may take fewer. */
async function writeAt(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let written = 0; written < bytes.byteLength; ) {
    const { bytesWritten } = await file.write(bytes, written, bytes.byteLength - written, position + written);
    written += bytesWritten;
  }
}

/** The same file once more, past the page cache; null where that does not exist. */
async function openUncached(path: string): Promise<FileHandle | null> {
  if (process.platform !== "linux") return null;
  try {
    return await open(path, constants.O_WRONLY | constants.O_DIRECT);
  } catch (error) {
    if (["EINVAL", "ENOTSUP", "EOPNOTSUPP"].includes(systemCode(error) ?? "")) return null;
    throw error;
  }
}

/**
 * Memory that begins at a page, which the disk asks for when it reads it itself. An ArrayBuffer begins anywhere, except
 * one that could be resized: V8 takes its memory in pages. Were that to end, the writes would be refused, and repeated
 * through the page cache.
 */
function pageAlignedBlocks(): [Uint8Array, Uint8Array] {
  const memory = new ArrayBuffer(2 * blockBytes, { maxByteLength: 2 * blockBytes });
  return [new Uint8Array(memory, 0, blockBytes), new Uint8Array(memory, blockBytes, blockBytes)];
}
