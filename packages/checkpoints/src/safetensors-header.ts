import { EspalierError } from "@espalier/core";
import { type ElementType, elementBytes, elementTypes } from "./number-formats.js";
import { repeatedKey } from "./repeated-json-key.js";

/** A tensor as a safetensors header describes it. */
export interface StoredTensor {
  readonly name: string;
  readonly type: ElementType;
  readonly shape: readonly number[];
  /** First byte, counted from the end of the header. */
  readonly begin: number;
  /** One past its last byte. */
  readonly end: number;
}

/** Elements of a shape; 1 for a scalar. */
export function elementCount(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

/**
 * Reads and checks a header: known types, sizes that agree with shapes, data that fills the file without overlap or
 * gaps, no name twice.
 *
 * @param bytes the header's text
 * @param dataBytes bytes of the file after the header
 * @throws EspalierError ESPALIER_SAFETENSORS_INVALID naming the file, and the tensor where one is at fault
 */
export function parseHeader(bytes: Uint8Array, dataBytes: number, file: string): Map<string, StoredTensor> {
  const text = decode(bytes, file);
  let header: unknown;
  try {
    header = JSON.parse(text);
  } catch (cause) {
    throw invalid(file, "its header is not JSON", cause);
  }
  if (!isObject(header)) throw invalid(file, "its header is not a JSON object");
  refuseRepeatedKey(text, file);
  const { __metadata__: metadata, ...descriptions } = header;
  if (metadata !== undefined && !isTexts(metadata))
    throw invalid(file, `its __metadata__ holds more than texts: ${JSON.stringify(metadata).slice(0, 80)}`);
  const tensors = new Map<string, StoredTensor>();
  for (const [name, description] of Object.entries(descriptions))
    tensors.set(name, parseTensor(name, description, dataBytes, file));
  checkLayout(tensors, dataBytes, file);
  return tensors;
}

function parseTensor(name: string, description: unknown, dataBytes: number, file: string): StoredTensor {
  if (!isObject(description)) throw invalid(file, `tensor "${name}" has no description`);
  const { dtype, shape, data_offsets: offsets } = description;
  const type = elementTypes.find((candidate) => candidate === dtype);
  if (type === undefined)
    throw invalid(
      file,
      `tensor "${name}" has the element type ${JSON.stringify(dtype)}; these can be read: ${elementTypes.join(", ")}`,
    );
  if (!isWholeNumbers(shape))
    throw invalid(file, `tensor "${name}" has the impossible shape ${JSON.stringify(shape)}`);
  if (!isWholeNumbers(offsets) || offsets.length !== 2)
    throw invalid(file, `tensor "${name}" has impossible data_offsets ${JSON.stringify(offsets)}`);
  const [begin, end] = offsets as [number, number];
  if (begin > end || end > dataBytes)
    throw invalid(
      file,
      `tensor "${name}" lies at bytes ${begin} to ${end}, but the file holds ${dataBytes} bytes of data; it is cut off or damaged`,
    );
  const wanted = elementCount(shape) * elementBytes[type];
  if (!Number.isSafeInteger(wanted) || end - begin !== wanted)
    throw invalid(
      file,
      `tensor "${name}" of shape [${shape.join(",")}] and type ${type} needs ${wanted} bytes, but ${end - begin} are given`,
    );
  return { name, type, shape, begin, end };
}

function checkLayout(tensors: Map<string, StoredTensor>, dataBytes: number, file: string): void {
  let position = 0;
  let previous = "";
  for (const tensor of [...tensors.values()].sort((a, b) => a.begin - b.begin || a.end - b.end)) {
    if (tensor.begin < position) throw invalid(file, `tensors "${previous}" and "${tensor.name}" overlap`);
    if (tensor.begin > position)
      throw invalid(file, `${tensor.begin - position} bytes before tensor "${tensor.name}" belong to none`);
    position = tensor.end;
    previous = tensor.name;
  }
  if (position !== dataBytes)
    throw invalid(file, `its last ${dataBytes - position} bytes belong to no tensor`);
}

function decode(bytes: Uint8Array, file: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw invalid(file, "its header is not UTF-8", cause);
  }
}

function refuseRepeatedKey(text: string, file: string): void {
  const repeated = repeatedKey(text);
  if (repeated === null) return;
  const [tensor] = repeated.within;
  throw invalid(
    file,
    tensor === undefined
      ? `tensor "${repeated.key}" is described twice`
      : `tensor "${tensor}" has "${repeated.key}" twice`,
  );
}

function isTexts(value: unknown): boolean {
  return isObject(value) && Object.values(value).every((text) => typeof text === "string");
}

function isObject(value: unknown): value is { readonly [key: string]: unknown } {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isWholeNumbers(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0);
}

/** The error of a safetensors file that cannot be read. */
export function invalid(file: string, what: string, cause?: unknown): EspalierError {
  return new EspalierError(
    "ESPALIER_SAFETENSORS_INVALID",
    `${file} is not a valid safetensors file: ${what}`,
    {
      file,
      cause,
    },
  );
}
