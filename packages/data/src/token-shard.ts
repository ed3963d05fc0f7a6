import { createHash, type Hash } from "node:crypto";
import { closeSync, openSync, readSync } from "node:fs";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { guardWrite, makeFolderOf, temporaryName } from "./cache.js";

/**
 * The file: a header of 4096 bytes (the magic line, then JSON, then spaces), then the tokens, little-endian. The header
 * is written last, when the checksum is known.
 */
const headerBytes = 4096;
const magic = "espalier tokens 1\n";
const chunkBytes = 4 * 1024 * 1024;

/** What a shard says of itself. */
interface ShardHeader {
  /** Hash of all that decides its content. */
  readonly key: string;
  /** Bytes per token: 2 up to a vocabulary of 65 536, else 4. */
  readonly width: 2 | 4;
  readonly tokens: number;
  /** SHA-256 of the tokens. */
  readonly sha256: string;
}

/** Writes a shard beside its place; it appears there, complete, with `finish`. */
export class TokenShardWriter {
  private readonly hash: Hash = createHash("sha256");
  private tokens = 0;
  private position = headerBytes;

  private constructor(
    private readonly path: string,
    private readonly temporary: string,
    private readonly file: FileHandle,
    private readonly key: string,
    private readonly width: 2 | 4,
  ) {}

  static async create(path: string, key: string, vocabSize: number): Promise<TokenShardWriter> {
    await makeFolderOf(path);
    const temporary = temporaryName(path);
    const file = await guardWrite(path, () => open(temporary, "wx"));
    return new TokenShardWriter(path, temporary, file, key, vocabSize <= 0x10000 ? 2 : 4);
  }

  async append(tokens: Int32Array): Promise<void> {
    const packed = this.width === 2 ? Uint16Array.from(tokens) : Uint32Array.from(tokens);
    const bytes = new Uint8Array(packed.buffer);
    this.hash.update(bytes);
    await this.writeAt(bytes, this.position);
    this.position += bytes.length;
    this.tokens += tokens.length;
  }

  async finish(): Promise<void> {
    const header: ShardHeader = {
      key: this.key,
      width: this.width,
      tokens: this.tokens,
      sha256: this.hash.digest("hex"),
    };
    const bytes = Buffer.alloc(headerBytes, " ");
    bytes.write(magic + JSON.stringify(header));
    await this.writeAt(bytes, 0);
    await guardWrite(this.path, async () => {
      await this.file.sync();
      await this.file.close();
      await rename(this.temporary, this.path);
    });
  }

  /** Removes what was written; harmless after `finish`. */
  async discard(): Promise<void> {
    await this.file.close();
    await rm(this.temporary, { force: true });
  }

  private async writeAt(bytes: Uint8Array, position: number): Promise<void> {
    let written = 0;
    while (written < bytes.length) {
      const { bytesWritten } = await guardWrite(this.path, () =>
        this.file.write(bytes, written, bytes.length - written, position + written),
      );
      written += bytesWritten;
    }
  }
}

/** A split's tokens on disk, read where they are wanted. */
export class TokenShard {
  private open = true;

  private constructor(
    private readonly descriptor: number,
    private readonly width: 2 | 4,
    /** How many there are. */
    readonly tokens: number,
    /** SHA-256 of the tokens. */
    readonly sha256: string,
  ) {}

  /**
   * Opens a shard and reads it through once, to see that it is whole.
   *
   * @returns null if there is none, or it belongs to other data, or is cut short or damaged
   */
  static open(path: string, key: string): TokenShard | null {
    let descriptor: number;
    try {
      descriptor = openSync(path, "r");
    } catch {
      return null;
    }
    try {
      const header = readHeader(descriptor);
      if (header !== null && header.key === key && checksum(descriptor, header) === header.sha256)
        return new TokenShard(descriptor, header.width, header.tokens, header.sha256);
    } catch {
      // Not to be read: as good as damaged.
    }
    closeSync(descriptor);
    return null;
  }

  /** Copies tokens `[first, first + count)` to `into`, from index `at` on. */
  read(first: number, count: number, into: Int32Array, at: number): void {
    const bytes = new Uint8Array(count * this.width);
    readFully(this.descriptor, bytes, headerBytes + first * this.width);
    into.set(this.width === 2 ? new Uint16Array(bytes.buffer) : new Uint32Array(bytes.buffer), at);
  }

  close(): void {
    if (this.open) closeSync(this.descriptor);
    this.open = false;
  }
}

function readHeader(descriptor: number): ShardHeader | null {
  const bytes = Buffer.alloc(headerBytes);
  readFully(descriptor, bytes, 0);
  const text = bytes.toString("utf8");
  if (!text.startsWith(magic)) return null;
  const value: unknown = JSON.parse(text.slice(magic.length));
  return isHeader(value) ? value : null;
}

function isHeader(value: unknown): value is ShardHeader {
  return (
    typeof value === "object" &&
    value !== null &&
    "key" in value &&
    "width" in value &&
    (value.width === 2 || value.width === 4) &&
    "tokens" in value &&
    Number.isSafeInteger(value.tokens) &&
    "sha256" in value &&
    typeof value.sha256 === "string"
  );
}

/** SHA-256 of the tokens, or null if there are fewer or more bytes than the header says. */
function checksum(descriptor: number, header: ShardHeader): string | null {
  const hash = createHash("sha256");
  const chunk = Buffer.alloc(chunkBytes);
  const end = headerBytes + header.tokens * header.width;
  for (let position = headerBytes; position < end; ) {
    const read = readSync(descriptor, chunk, 0, Math.min(chunkBytes, end - position), position);
    if (read === 0) return null;
    hash.update(chunk.subarray(0, read));
    position += read;
  }
  return readSync(descriptor, chunk, 0, 1, end) === 0 ? hash.digest("hex") : null;
}

/** @throws RangeError if the file ends before the bytes do */
function readFully(descriptor: number, bytes: Uint8Array, position: number): void {
  let done = 0;
  while (done < bytes.length) {
    const read = readSync(descriptor, bytes, done, bytes.length - done, position + done);
    if (read === 0) throw new RangeError(`a token shard ends at byte ${position + done}`);
    done += read;
  }
}
