import { type FileHandle, open } from "node:fs/promises";
import { EspalierError } from "@espalier/core";
import { readFailure } from "./file-failures.js";
import { type FloatType, floats, int64ToInt32, isFloatType } from "./number-formats.js";
import { invalid, parseHeader, type StoredTensor } from "./safetensors-header.js";

/** Named tensors on disk, read one at a time. */
export interface TensorSource {
  /** The file that is named in messages. */
  readonly file: string;
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  /**
   * A float tensor as float32 (F32, F16, BF16, F64).
   *
   * @throws EspalierError if it is not there, or holds integers
   */
  readFloats(name: string): Promise<Float32Array>;
  /**
   * The same numbers as float32 bytes, piece by piece, in a few MiB of memory. A piece is valid until the next is asked
   * for.
   *
   * @throws EspalierError as {@link TensorSource.readFloats}
   */
  floatPieces(name: string): AsyncIterable<Uint8Array>;
  /**
   * An integer tensor as int32 (I32, U8, BOOL, and I64 whose values fit).
   *
   * @throws EspalierError if it is not there, holds floats, or a value does not fit
   */
  readIntegers(name: string): Promise<Int32Array>;
  close(): Promise<void>;
}

// The reference implementation's limit: no real header comes near, a damaged length does.
const largestHeader = 100_000_000;
// Large enough that the system's calls do not count, small enough to stay in the processor's cache. A multiple of 8, so
// that no number is torn apart.
const pieceBytes = 2 ** 20;

/**
 * Opens a safetensors file and checks its whole header; data is read on demand.
 *
 * @throws EspalierError ESPALIER_SAFETENSORS_INVALID for a damaged file, ESPALIER_READ_FAILED for one that cannot be read
 */
export async function openSafetensors(file: string): Promise<TensorSource> {
  const handle = await open(file, "r").catch((cause) => {
    throw readFailure(file, cause);
  });
  try {
    const { size } = await handle.stat();
    if (size < 8) throw invalid(file, `it has only ${size} bytes`);
    const length = littleEndian(await readBytes(handle, 0, 8, file));
    if (length > BigInt(size - 8))
      throw invalid(
        file,
        `its header claims ${length} bytes, but the file has ${size}; it is cut off or damaged`,
      );
    if (length > BigInt(largestHeader))
      throw invalid(
        file,
        `its header claims ${length} bytes, more than the ${largestHeader} that are allowed`,
      );
    const headerBytes = Number(length);
    const tensors = parseHeader(await readBytes(handle, 8, headerBytes, file), size - 8 - headerBytes, file);
    return new SafetensorsFile(file, tensors, handle, 8 + headerBytes);
  } catch (error) {
    await handle.close();
    throw error;
  }
}

class SafetensorsFile implements TensorSource {
  private readonly freeBuffers: Uint8Array[] = [];

  constructor(
    readonly file: string,
    readonly tensors: ReadonlyMap<string, StoredTensor>,
    private readonly handle: FileHandle,
    private readonly dataStart: number,
  ) {}

  async readFloats(name: string): Promise<Float32Array> {
    const stored = this.find(name);
    return floats(await this.bytes(stored), this.floatType(stored));
  }

  async *floatPieces(name: string): AsyncGenerator<Uint8Array> {
    const stored = this.find(name);
    const type = this.floatType(stored);
    // Two buffers in turn: one is read into while the other one's piece is in use. They serve tensor after tensor: to
    // clear new ones for each would cost as much as reading does.
    let buffer = this.takeBuffer();
    let other = this.takeBuffer();
    let begin = stored.begin;
    const readNext = (): Promise<Uint8Array> | null => {
      if (begin >= stored.end) return null;
      const piece = buffer.subarray(0, Math.min(pieceBytes, stored.end - begin));
      const reading = readInto(this.handle, piece, this.dataStart + begin, this.file).then(() => piece);
      // A failure is told when the piece is asked for.
      reading.catch(() => undefined);
      begin += piece.byteLength;
      [buffer, other] = [other, buffer];
      return reading;
    };
    let reading = readNext();
    try {
      while (reading !== null) {
        const piece = await reading;
        reading = readNext();
        if (type === "F32") yield piece;
        else {
          const converted = floats(piece, type);
          yield new Uint8Array(converted.buffer, converted.byteOffset, converted.byteLength);
        }
      }
    } finally {
      // Whoever stops early must not leave a read that writes into somebody else's buffer.
      await reading?.catch(() => undefined);
      this.freeBuffers.push(buffer, other);
    }
  }

  async readIntegers(name: string): Promise<Int32Array> {
    const stored = this.find(name);
    const bytes = await this.bytes(stored);
    switch (stored.type) {
      case "I32":
        return new Int32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
      case "U8":
      case "BOOL":
        return Int32Array.from(bytes);
      case "I64": {
        const values = int64ToInt32(bytes);
        if (values === null)
          throw new EspalierError(
            "ESPALIER_TENSOR_TYPE",
            `tensor "${name}" in ${this.file} holds integers beyond 32 bits`,
            { file: this.file, key: name },
          );
        return values;
      }
      default:
        throw this.wrongType(stored, "integers");
    }
  }

  async close(): Promise<void> {
    await this.handle.close();
  }

  private takeBuffer(): Uint8Array {
    return this.freeBuffers.pop() ?? new Uint8Array(new ArrayBuffer(pieceBytes));
  }

  private find(name: string): StoredTensor {
    const stored = this.tensors.get(name);
    if (stored === undefined) throw missingTensor(this.file, name);
    return stored;
  }

  // A buffer of its own, so that typed views start aligned and nobody else's bytes are in it.
  private async bytes(stored: StoredTensor): Promise<Uint8Array> {
    return readBytes(this.handle, this.dataStart + stored.begin, stored.end - stored.begin, this.file);
  }

  private floatType(stored: StoredTensor): FloatType {
    if (isFloatType(stored.type)) return stored.type;
    throw this.wrongType(stored, "floating-point numbers");
  }

  private wrongType(stored: StoredTensor, wanted: string): EspalierError {
    return new EspalierError(
      "ESPALIER_TENSOR_TYPE",
      `tensor "${stored.name}" in ${this.file} has the type ${stored.type}, but ${wanted} are expected`,
      { file: this.file, key: stored.name },
    );
  }
}

async function readBytes(
  handle: FileHandle,
  position: number,
  length: number,
  file: string,
): Promise<Uint8Array> {
  const bytes = new Uint8Array(new ArrayBuffer(length));
  await readInto(handle, bytes, position, file);
  return bytes;
}

async function readInto(
  handle: FileHandle,
  bytes: Uint8Array,
  position: number,
  file: string,
): Promise<void> {
  for (let filled = 0; filled < bytes.byteLength; ) {
    const { bytesRead } = await handle
      .read(bytes, filled, Math.min(bytes.byteLength - filled, 2 ** 30), position + filled)
      .catch((cause) => {
        throw readFailure(file, cause);
      });
    if (bytesRead === 0) throw invalid(file, "it ends in the middle of its data");
    filled += bytesRead;
  }
}

function littleEndian(bytes: Uint8Array): bigint {
  return new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0, true);
}

/** The error of a tensor that is not there. */
export function missingTensor(file: string, name: string): EspalierError {
  return new EspalierError("ESPALIER_TENSOR_MISSING", `there is no tensor "${name}" in ${file}`, {
    file,
    key: name,
  });
}
