import { existsSync } from "node:fs";
import { statfs } from "node:fs/promises";
import path from "node:path";
import { MissingPiece } from "./missing-piece.js";

/** Bytes that this user may still write under `folder` (or the nearest folder above it that exists). */
export async function freeSpace(folder: string): Promise<number> {
  let existing = path.resolve(folder);
  while (!existsSync(existing) && path.dirname(existing) !== existing) existing = path.dirname(existing);
  const { bavail, bsize } = await statfs(existing);
  return bavail * bsize;
}

/**
 * Asks for room before something large is written, so that a full disk is known beforehand.
 *
 * @param bytes that will be needed
 * @throws MissingPiece naming needed and free space
 */
export async function requireSpace(folder: string, bytes: number, what: string): Promise<void> {
  const free = await freeSpace(folder);
  if (free >= bytes) return;
  throw diskFull(folder, `${what} needs ${gigabytes(bytes)}, ${gigabytes(free)} are free`, bytes - free);
}

/** The error for a disk that is full, or too full. */
export function diskFull(folder: string, what: string, missing?: number): MissingPiece {
  return new MissingPiece("ESPALIER_BACKENDS_DISK_FULL", `not enough disk space in ${folder}: ${what}`, {
    hint: missing === undefined ? "free some disk space" : `free ${gigabytes(missing)} of disk space`,
  });
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(1)} GB`;
}
