import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { systemCode } from "./file-failures.js";

/** What is handed to the disk at once, in bytes: a multiple of every page and sector size in use. */
export const blockBytes = 2 ** 20;
// One is filled while the disk has the others.
const blockCount = 4;

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
  const blocks = pageAlignedBlocks();
  const writes: Promise<void>[] = blocks.map(() => Promise.resolve());
  let current = 0;
  let filled = 0;
  let position = 0;
  const uncached = await openUncached(path);
  let target = uncached ?? file;
  const writeBlock = async (block: Uint8Array, at: number): Promise<void> => {
    try {
      await writeAt(target, block, at);
    } catch (error) {
      // Some file systems open such a file and refuse to write it.
      if (uncached === null || systemCode(error) !== "EINVAL") throw error;
      target = file;
      await writeAt(file, block, at);
    }
  };
  try {
    for await (const piece of pieces)
      for (let taken = 0; taken < piece.byteLength; ) {
        const part = piece.subarray(taken, taken + blockBytes - filled);
        blocks[current]!.set(part, filled);
        taken += part.byteLength;
        filled += part.byteLength;
        if (filled < blockBytes) continue;
        const writing = writeBlock(blocks[current]!, position);
        // A failure is told when the block's turn comes again, or at the end.
        writing.catch(() => undefined);
        writes[current] = writing;
        position += blockBytes;
        filled = 0;
        current = (current + 1) % blockCount;
        await writes[current];
      }
    await Promise.all(writes);
    // What does not fill a block may have any length, which only the page cache takes.
    await writeAt(file, blocks[current]!.subarray(0, filled), position);
  } finally {
    await Promise.allSettled(writes);
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
function pageAlignedBlocks(): readonly Uint8Array[] {
  const bytes = blockCount * blockBytes;
  const memory = new ArrayBuffer(bytes, { maxByteLength: bytes });
  return Array.from(
    { length: blockCount },
    (_, block) => new Uint8Array(memory, block * blockBytes, blockBytes),
  );
}
