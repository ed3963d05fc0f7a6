import * as zlib from "node:zlib";
import { type Corpus, EspalierError, unknownName } from "@espalier/core";
import type { AsyncBuffer, Compressors } from "hyparquet";
import { hashOf } from "../cache.js";
import { type HubDataset, listParquet, type ParquetFile, selectFiles, unreachable } from "./hub-files.js";
import { textField } from "./record-field.js";

/** A dataset of the Hugging Face hub as a corpus. */
export interface HuggingFaceCorpusOptions {
  /** `owner/name` */
  readonly dataset: string;
  /** Its configuration (subset); needed only where it has several. */
  readonly config?: string;
  readonly split: string;
  /** Branch, tag or commit. Default: `main`, or the hub's own conversion to Parquet. */
  readonly revision?: string;
  /** The column that holds the text; a dot leads into a nested one. */
  readonly field: string;
  /** The hub's address. Default: `HF_ENDPOINT`, else https://huggingface.co */
  readonly endpoint?: string;
  /** Takes the first documents only. */
  readonly limit?: number;
}

/** How often a request is made before it fails, and the first pause in milliseconds (then twice as long). */
const attempts = 4;
const firstPause = 250;

/**
 * The corpus `huggingface`: a dataset's Parquet files, one row group at a time, by range requests. Nothing is kept but
 * the row group in hand. `HF_TOKEN` opens private datasets. Rows without text are left out.
 */
export function huggingFaceCorpus(
  options: HuggingFaceCorpusOptions,
  environment: NodeJS.ProcessEnv = process.env,
): Corpus {
  const hub: HubDataset = {
    dataset: options.dataset,
    endpoint: (options.endpoint ?? (environment.HF_ENDPOINT || "https://huggingface.co")).replace(/\/+$/, ""),
    revision: options.revision,
    accessToken: environment.HF_TOKEN || undefined,
  };
  let listing: Promise<{ revision: string; files: readonly ParquetFile[] }> | null = null;
  const find = async () => {
    listing ??= listParquet(hub, persistentFetch).then(({ revision, files }) => ({
      revision,
      files: selectFiles(files, options.dataset, options.config, options.split),
    }));
    try {
      return await listing;
    } catch (error) {
      listing = null;
      throw error;
    }
  };
  return {
    async fingerprint() {
      const { files } = await find();
      return hashOf({
        corpus: "huggingface",
        field: options.field,
        limit: options.limit ?? null,
        files: files.map(({ path, size, oid }) => [path, size, oid]),
      });
    },
    async *documents() {
      const { revision, files } = await find();
      let left = options.limit ?? Number.POSITIVE_INFINITY;
      for (const file of files)
        for await (const text of readFile(hub, revision, file, options.field)) {
          if (left-- <= 0) return;
          yield text;
        }
    },
  };
}

async function* readFile(
  hub: HubDataset,
  revision: string,
  file: ParquetFile,
  field: string,
): AsyncGenerator<string> {
  const { asyncBufferFromUrl, parquetMetadataAsync, parquetReadObjects, parquetSchema } = await import(
    "hyparquet"
  );
  const path = file.path.split("/").map(encodeURIComponent).join("/");
  const url = `${hub.endpoint}/datasets/${hub.dataset}/resolve/${encodeURIComponent(revision)}/${path}`;
  const guarded = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (error) {
      throw readFailure(hub, url, error);
    }
  };
  const buffer: AsyncBuffer = await guarded(() =>
    asyncBufferFromUrl({
      url,
      byteLength: file.size,
      fetch: persistentFetch,
      ...(hub.accessToken === undefined
        ? {}
        : { requestInit: { headers: { Authorization: `Bearer ${hub.accessToken}` } } }),
    }),
  );
  const metadata = await guarded(() => parquetMetadataAsync(buffer));
  const columns = parquetSchema(metadata).children.map((child) => child.element.name);
  const column = columns.includes(field) ? field : field.split(".")[0]!;
  if (!columns.includes(column))
    throw unknownName("ESPALIER_CORPUS_FIELD", `column of "${hub.dataset}"`, field, columns, {
      key: "data.corpus.field",
    });
  let rowStart = 0;
  for (const group of metadata.row_groups) {
    const rowEnd = rowStart + Number(group.num_rows);
    const rows = await guarded(() =>
      parquetReadObjects({
        file: buffer,
        metadata,
        columns: [column],
        rowStart,
        rowEnd,
        compressors: decompressors(),
      }),
    );
    for (const [index, row] of rows.entries()) {
      const value: unknown = row[column];
      if (value !== null && value !== undefined) yield textField(row, field, `row ${rowStart + index}`, url);
    }
    rowStart = rowEnd;
  }
}

/** Codecs that hyparquet leaves to the caller. Zstandard came to Node.js with 22.15. */
function decompressors(): Compressors {
  const zstd: unknown = "zstdDecompressSync" in zlib ? zlib.zstdDecompressSync : undefined;
  return {
    GZIP: (input) => zlib.gunzipSync(input),
    BROTLI: (input) => zlib.brotliDecompressSync(input),
    ...(typeof zstd === "function" ? { ZSTD: (input: Uint8Array): Uint8Array => zstd(input) } : {}),
  };
}

function readFailure(hub: HubDataset, url: string, error: unknown): EspalierError {
  if (error instanceof EspalierError) return error;
  const message = error instanceof Error ? error.message : String(error);
  if (/unsupported compression codec/i.test(message))
    return new EspalierError("ESPALIER_CORPUS_UNREADABLE", `${message} in ${url}`, {
      file: url,
      hint: "ZSTD needs Node.js 22.15 or newer",
      cause: error,
    });
  if (/parquet/i.test(message))
    return new EspalierError("ESPALIER_CORPUS_UNREADABLE", `not a whole Parquet file: ${message}`, {
      file: url,
      cause: error,
    });
  return unreachable(hub, error);
}

/** `fetch` that tries again after a lost connection, 429 or a server's failure. */
async function persistentFetch(...request: Parameters<typeof fetch>): Promise<Response> {
  for (let attempt = 1; ; attempt++) {
    const last = attempt === attempts;
    try {
      const response = await fetch(...request);
      if (last || (response.status !== 429 && response.status < 500)) return response;
      await response.body?.cancel();
    } catch (error) {
      if (last) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, firstPause * 2 ** (attempt - 1)));
  }
}
