import { MlflowInputError } from "./errors.js";
import { limits } from "./limits.js";
import { checkMetric, checkParam, checkTag, type Metric, type Param, type Tag } from "./validation.js";

/** Metrics, params and tags to log at once; any number of each. */
export interface Batch {
  readonly metrics?: readonly Metric[] | undefined;
  readonly params?: readonly Param[] | undefined;
  readonly tags?: readonly Tag[] | undefined;
}

/** One request's worth of a batch. */
export interface BatchRequest {
  readonly metrics: Metric[];
  readonly params: Param[];
  readonly tags: Tag[];
}

/**
 * Checks a batch and splits it into requests that a server takes: params first, then tags, then metrics, each in the
 * given order. A param that is given twice with the same value is sent once.
 *
 * @param overhead bytes of a request beside its entries
 * @throws MlflowInputError if anything in the batch is not acceptable; nothing of it should be sent then, since a
 * server stores requests whole or not at all
 */
export function splitBatch(batch: Batch, overhead = 200): BatchRequest[] {
  const params = distinctParams(batch.params ?? []);
  const tags = batch.tags ?? [];
  const metrics = batch.metrics ?? [];
  for (const [index, tag] of tags.entries()) checkTag(tag, `tags[${index}]`);
  for (const [index, metric] of metrics.entries()) checkMetric(metric, `metrics[${index}]`);

  const requests: BatchRequest[] = [];
  let request: BatchRequest = { metrics: [], params: [], tags: [] };
  let bytes = overhead;
  let entries = 0;
  const add = <Entry>(entry: Entry, listOf: (request: BatchRequest) => Entry[], most: number) => {
    const size = Buffer.byteLength(JSON.stringify(entry), "utf8") + 1;
    if (
      listOf(request).length >= most ||
      entries >= limits.entriesPerBatch ||
      bytes + size > limits.bytesPerBatch
    ) {
      requests.push(request);
      request = { metrics: [], params: [], tags: [] };
      bytes = overhead;
      entries = 0;
    }
    listOf(request).push(entry);
    bytes += size;
    entries++;
  };
  for (const param of params) add(param, (each) => each.params, limits.paramsPerBatch);
  for (const tag of tags) add(tag, (each) => each.tags, limits.tagsPerBatch);
  for (const metric of metrics) add(metric, (each) => each.metrics, limits.metricsPerBatch);
  if (entries > 0) requests.push(request);
  return requests;
}

function distinctParams(params: readonly Param[]): Param[] {
  const known = new Map<string, string>();
  return params.filter((param, index) => {
    checkParam(param, `params[${index}]`);
    const value = known.get(param.key);
    if (value !== undefined && value !== param.value)
      throw new MlflowInputError(
        `params[${index}]: ${param.key} is given twice, as "${value}" and as "${param.value}"`,
        `params[${index}].value`,
      );
    known.set(param.key, param.value);
    return value === undefined;
  });
}
