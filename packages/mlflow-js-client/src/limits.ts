/**
 * What a tracking server takes. Larger values are refused, or silently cut, depending on the server's version and
 * the field.
 */
export const limits = {
  metricsPerBatch: 1000,
  paramsPerBatch: 100,
  tagsPerBatch: 100,
  /** Metrics, params and tags together. */
  entriesPerBatch: 1000,
  bytesPerBatch: 1_000_000,
  /** Characters. */
  keyLength: 250,
  paramValueLength: 6000,
  tagValueLength: 8000,
  experimentNameLength: 500,
  datasetNameLength: 500,
  datasetDigestLength: 36,
  datasetSourceLength: 65_535,
  datasetSchemaLength: 1_048_575,
  datasetProfileLength: 16_777_215,
  inputTagLength: 500,
} as const;
