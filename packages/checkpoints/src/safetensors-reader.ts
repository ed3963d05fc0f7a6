import { type FileHandle, open, readFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { EspalierError } from "@espalier/core";
import { readFailure } from "./file-failures.js";
import { bfloat16ToFloat32, float16ToFloat32, int64ToInt32 } from "./number-formats.js";
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
   * An integer tensor as int32 (I32, U8, BOOL, and I64 whose values fit).
   *
   * @throws EspalierError if it is not there, holds floats, or a value does not fit
   */
  readIntegers(name: string): Promise<Int32Array>;
  close(): Promise<void>;
}

// The reference implementation's limit: no real header comes near, a damaged length does.
const largestHeader = 100_000_000;

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
    const length = (await readBytes(handle, 0, 8, file)).readBigUInt64LE();
    if (length > BigInt(Math.min(size - 8, largestHeader)))
      throw invalid(
        file,
        `its header claims ${length} bytes, but the file has ${size}; it is cut off or damaged`,
      );
    const headerBytes = Number(length);
    const text = (await readBytes(handle, 8, headerBytes, file)).toString("utf8");
    const tensors = parseHeader(text, size - 8 - headerBytes, file);
    return new SafetensorsFile(file, tensors, handle, 8 + headerBytes);
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/**
 * Opens `model.safetensors.index.json` and every shard that it names.
 *
 * @throws EspalierError ESPALIER_SHARDS_INVALID if the index is damaged, a shard is missing, or lacks a tensor
 */
export async function openShardedSafetensors(indexFile: string): Promise<TensorSource> {
  const places = await readIndex(indexFile);
  const shards = new Map<string, TensorSource>();
  const owners = new Map<string, TensorSource>();
  const tensors = new Map<string, StoredTensor>();
  try {
    for (const [name, shardName] of places) {
      let shard = shards.get(shardName);
      if (shard === undefined) {
        shard = await openSafetensors(join(dirname(indexFile), shardName));
        shards.set(shardName, shard);
      }
      const stored = shard.tensors.get(name);
      if (stored === undefined)
        throw shardsInvalid(indexFile, `tensor "${name}" should be in ${shardName}, but is not`);
      owners.set(name, shard);
      tensors.set(name, stored);
    }
  } catch (error) {
    for (const shard of shards.values()) await shard.close();
    throw error;
  }
  const owner = (name: string): TensorSource => {
    const shard = owners.get(name);
    if (shard === undefined) throw missingTensor(indexFile, name);
    return shard;
  };
  return {
    file: indexFile,
    tensors,
    readFloats: async (name) => owner(name).readFloats(name),
    readIntegers: async (name) => owner(name).readIntegers(name),
    close: async () => {
      for (const shard of shards.values()) await shard.close();
    },
  };
}

class SafetensorsFile implements TensorSource {
  constructor(
    readonly file: string,
    readonly tensors: ReadonlyMap<string, StoredTensor>,
    private readonly handle: FileHandle,
    private readonly dataStart: number,
  ) {}

  async readFloats(name: string): Promise<Float32Array> {
    const stored = this.find(name);
    const bytes = await this.bytes(stored);
    switch (stored.type) {
      case "F32":
        return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
      case "F16":
        return float16ToFloat32(bytes);
      case "BF16":
        return bfloat16ToFloat32(bytes);
      case "F64":
        return Float32Array.from(new Float64Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 8));
      default:
        throw this.wrongType(stored, "floating-point numbers");
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

  private find(name: string): StoredTensor {
    const stored = this.tensors.get(name);
    if (stored === undefined) throw missingTensor(this.file, name);
    return stored;
  }

  // A buffer of its own, so that typed views start aligned and nobody else's bytes are in it.
  private async bytes(stored: StoredTensor): Promise<Uint8Array> {
    return readBytes(this.handle, this.dataStart + stored.begin, stored.end - stored.begin, this.file);
  }

  private wrongType(stored: StoredTensor, wanted: string): EspalierError {
    return new EspalierError(
      "ESPALIER_TENSOR_TYPE",
      `tensor "${stored.name}" in ${this.file} has the type ${stored.type}, but ${wanted} are expected`,
      { file: this.file, key: stored.name },
    );
  }
}

async function readIndex(indexFile: string): Promise<[name: string, shard: string][]> {
  const text = await readFile(indexFile, "utf8").catch((cause) => {
    throw readFailure(indexFile, cause);
  });
  let index: unknown;
  try {
    index = JSON.parse(text);
  } catch (cause) {
    throw shardsInvalid(indexFile, "it is not JSON", cause);
  }
  const map = (index as { weight_map?: unknown } | null)?.weight_map;
  if (typeof map !== "object" || map === null || Array.isArray(map))
    throw shardsInvalid(indexFile, 'it has no "weight_map"');
  return Object.entries(map).map(([name, shard]) => {
    // A shard lies beside its index; anything else would read files that the checkpoint has no business with.
    if (typeof shard !== "string" || shard !== basename(shard) || shard === "" || shard === "..")
      throw shardsInvalid(
        indexFile,
        `tensor "${name}" names the shard ${JSON.stringify(shard)}, which is no file name`,
      );
    return [name, shard];
  });
}

async function readBytes(
  handle: FileHandle,
  position: number,
  length: number,
  file: string,
): Promise<Buffer> {
  const buffer = Buffer.from(new ArrayBuffer(length));
  let filled = 0;
  while (filled < length) {
    const { bytesRead } = await handle
      .read(buffer, filled, Math.min(length - filled, 2 ** 30), position + filled)
      .catch((cause) => {
        throw readFailure(file, cause);
      });
    if (bytesRead === 0) throw invalid(file, "it ends in the middle of its data");
    filled += bytesRead;
  }
  return buffer;
}

function missingTensor(file: string, name: string): EspalierError {
  return new EspalierError("ESPALIER_TENSOR_MISSING", `there is no tensor "${name}" in ${file}`, {
    file,
    key: name,
  });
}

function shardsInvalid(file: string, what: string, cause?: unknown): EspalierError {
  return new EspalierError("ESPALIER_SHARDS_INVALID", `${file} is not a valid index of shards: ${what}`, {
    file,
    cause,
  });
}
