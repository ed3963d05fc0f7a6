import { EspalierError, suggest, UsageError, unknownName } from "@espalier/core";

/** A Parquet file of a dataset, as its path says. */
export interface ParquetFile {
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  /** Hash of its content, as the hub keeps it. */
  readonly oid: string;
}

/** A dataset on the hub. */
export interface HubDataset {
  /** `owner/name`, or `name` alone for the oldest ones. */
  readonly dataset: string;
  readonly endpoint: string;
  readonly revision: string | undefined;
  readonly accessToken: string | undefined;
}

/** The branch where the hub keeps Parquet that it made itself from datasets in other forms. */
const convertedRevision = "refs/convert/parquet";

/** Parquet files of a revision. */
export interface HubListing {
  readonly revision: string;
  readonly files: readonly ParquetFile[];
}

/**
 * Lists a dataset's Parquet files: those of the revision, else (where none was asked for) those that the hub converted.
 *
 * @throws UsageError ESPALIER_CORPUS_MISSING for an unknown dataset or revision, or one without Parquet
 * @throws EspalierError ESPALIER_CORPUS_UNREACHABLE if the hub does not answer
 */
export async function listParquet(hub: HubDataset, fetcher: typeof fetch): Promise<HubListing> {
  const revisions = hub.revision === undefined ? ["main", convertedRevision] : [hub.revision];
  for (const revision of revisions) {
    const files = await listRevision(hub, revision, fetcher);
    if (files !== null && files.length > 0) return { revision, files };
    if (files === null && revision !== convertedRevision)
      throw new UsageError(
        "ESPALIER_CORPUS_MISSING",
        hub.revision === undefined
          ? `there is no dataset "${hub.dataset}" at ${hub.endpoint} that may be read`
          : `there is no dataset "${hub.dataset}" with a revision "${hub.revision}" at ${hub.endpoint} that may be read`,
        {
          key: "data.corpus.dataset",
          hint: "a private or gated dataset needs HF_TOKEN; another hub: HF_ENDPOINT",
        },
      );
  }
  throw new UsageError(
    "ESPALIER_CORPUS_MISSING",
    `the dataset "${hub.dataset}" has no Parquet files in ${revisions.join(" or ")}`,
    { key: "data.corpus.dataset", hint: "download it and use the corpus jsonl or text" },
  );
}

/** Null if there is no such dataset or revision. */
async function listRevision(
  hub: HubDataset,
  revision: string,
  fetcher: typeof fetch,
): Promise<ParquetFile[] | null> {
  const { HubApiError, listFiles } = await import("@huggingface/hub");
  const files: ParquetFile[] = [];
  try {
    const entries = listFiles({
      repo: { type: "dataset", name: hub.dataset },
      recursive: true,
      // Slashes of a revision (refs/convert/parquet) are part of its name in the hub's addresses.
      revision: encodeURIComponent(revision),
      hubUrl: hub.endpoint,
      fetch: fetcher,
      ...(hub.accessToken === undefined ? {} : { accessToken: hub.accessToken }),
    });
    for await (const entry of entries)
      if (entry.type === "file" && entry.path.endsWith(".parquet"))
        files.push({
          path: entry.path,
          size: entry.lfs?.size ?? entry.size,
          oid: entry.lfs?.oid ?? entry.oid ?? `${entry.size}`,
        });
  } catch (error) {
    if (error instanceof HubApiError && [401, 403, 404].includes(error.statusCode)) return null;
    throw unreachable(hub, error);
  }
  return files.sort((a, b) => (a.path < b.path ? -1 : 1));
}

/** The failure of a hub that does not answer, or answers with an error. */
export function unreachable(hub: HubDataset, error: unknown): EspalierError {
  const cause = error instanceof Error && error.cause instanceof Error ? `: ${error.cause.message}` : "";
  return new EspalierError(
    "ESPALIER_CORPUS_UNREACHABLE",
    `cannot read the dataset "${hub.dataset}" from ${hub.endpoint}: ${error instanceof Error ? error.message : String(error)}${cause}`,
    { key: "data.corpus", hint: "check the network; another hub or a mirror: HF_ENDPOINT", cause: error },
  );
}

/** What a path says of a file's place in the dataset. */
interface FilePlace {
  /** The configuration (subset); empty if the path names none. */
  readonly config: string;
  readonly split: string;
}

/**
 * Reads configuration and split from a path, in the layouts that the hub has: `data/train-00000-of-00004.parquet`,
 * `train.parquet`, `<config>/train-00000-of-00001.parquet`, `<config>/<split>/0000.parquet`, `<config>/<split>-part.parquet`.
 */
export function placeOf(path: string): FilePlace {
  const segments = path.split("/");
  const name = segments
    .pop()!
    .replace(/\.parquet$/, "")
    .replace(/[-_.]?\d+-of-\d+.*$/, "");
  const folders = segments.filter((segment) => segment !== "data");
  const words = splitIn(name);
  if (words !== null) return { config: folders.join("/"), split: words };
  const last = folders[folders.length - 1];
  const folderSplit = last === undefined ? null : splitIn(last);
  if (folderSplit !== null) return { config: folders.slice(0, -1).join("/"), split: folderSplit };
  // `<config>/<any other split>/0000.parquet` and `<config>/<any other split>-00000-of-00001.parquet`
  if (/^\d*$/.test(name) && folders.length > 1)
    return { config: folders.slice(0, -1).join("/"), split: folders[folders.length - 1]! };
  return { config: folders.join("/"), split: /^\d*$/.test(name) ? "train" : name };
}

/** The split that a name is or contains as a word: the usual names, and `partial-train` for what the hub cut. */
function splitIn(name: string): string | null {
  const match = /(?:^|[-_. ])(train|training|validation|valid|dev|val|test|testing|eval)(?:$|[-_. \d])/i.exec(
    name,
  );
  if (match === null) return null;
  const word = match[1]!.toLowerCase();
  // What stands before belongs to the name: `unlabeled-train` is no `train`, `partial-train` is what there is of it.
  const before = name.slice(0, match.index).toLowerCase();
  if (before !== "" && before !== "partial") return name;
  return (
    {
      training: "train",
      valid: "validation",
      val: "validation",
      dev: "validation",
      testing: "test",
      eval: "test",
    }[word] ?? word
  );
}

/**
 * The files of one configuration and split, by path.
 *
 * @throws UsageError naming the configurations or splits that there are
 */
export function selectFiles(
  files: readonly ParquetFile[],
  dataset: string,
  config: string | undefined,
  split: string,
): ParquetFile[] {
  const placed = files.map((file) => ({ file, place: placeOf(file.path) }));
  const configs = [...new Set(placed.map(({ place }) => place.config))].sort();
  const chosen =
    config ??
    (configs.length === 1 ? configs[0]! : configs.find((name) => name === "" || name === "default"));
  if (chosen === undefined)
    throw new UsageError(
      "ESPALIER_CORPUS_CONFIG",
      `the dataset "${dataset}" has ${configs.length} configurations: give data.corpus.config; ${suggest("", configs)}`,
      { key: "data.corpus.config" },
    );
  // A dataset with one unnamed configuration is called `default` on the hub.
  const isChosen = (name: string): boolean => name === chosen || (chosen === "default" && name === "");
  const ofConfig = placed.filter(({ place }) => isChosen(place.config));
  if (ofConfig.length === 0)
    throw unknownName(
      "ESPALIER_CORPUS_CONFIG",
      `configuration of "${dataset}"`,
      chosen,
      configs.map((name) => name || "default"),
      {
        key: "data.corpus.config",
      },
    );
  const ofSplit = ofConfig.filter(({ place }) => place.split === split);
  if (ofSplit.length === 0)
    throw unknownName(
      "ESPALIER_CORPUS_SPLIT",
      `split of "${dataset}"`,
      split,
      [...new Set(ofConfig.map(({ place }) => place.split))],
      { key: "data.corpus.split" },
    );
  return ofSplit.map(({ file }) => file);
}
