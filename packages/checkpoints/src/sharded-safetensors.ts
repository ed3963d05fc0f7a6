import { readFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { EspalierError } from "@espalier/core";
import { readFailure } from "./file-failures.js";
import { repeatedKey } from "./repeated-json-key.js";
import type { StoredTensor } from "./safetensors-header.js";
import { missingTensor, openSafetensors, type TensorSource } from "./safetensors-reader.js";

/**
 * Opens `model.safetensors.index.json` and every shard that it names.
 *
 * @throws EspalierError ESPALIER_SHARDS_INVALID if the index is damaged, a shard is missing, or lacks a tensor
 */
export async function openShardedSafetensors(indexFile: string): Promise<TensorSource> {
  const places = await readShardIndex(indexFile);
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
    for (const [shardName, shard] of shards)
      for (const name of shard.tensors.keys())
        if (owners.get(name) !== shard)
          throw shardsInvalid(
            indexFile,
            owners.has(name)
              ? `tensor "${name}" is in ${shardName}, too, though the index names another shard`
              : `tensor "${name}" is in ${shardName}, but the index does not name it`,
          );
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
    floatPieces: (name) => owner(name).floatPieces(name),
    readIntegers: async (name) => owner(name).readIntegers(name),
    close: async () => {
      for (const shard of shards.values()) await shard.close();
    },
  };
}

async function readShardIndex(indexFile: string): Promise<[name: string, shard: string][]> {
  const text = await readFile(indexFile, "utf8").catch((cause) => {
    throw readFailure(indexFile, cause);
  });
  let index: unknown;
  try {
    index = JSON.parse(text);
  } catch (cause) {
    throw shardsInvalid(indexFile, "it is not JSON", cause);
  }
  const repeated = repeatedKey(text);
  if (repeated !== null) throw shardsInvalid(indexFile, `"${repeated.key}" stands in it twice`);
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

function shardsInvalid(file: string, what: string, cause?: unknown): EspalierError {
  return new EspalierError("ESPALIER_SHARDS_INVALID", `${file} is not a valid index of shards: ${what}`, {
    file,
    cause,
  });
}
