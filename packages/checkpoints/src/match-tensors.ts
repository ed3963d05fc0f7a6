import { dirname } from "node:path";
import { type ForeignTensor, type ParameterSpec, UsageError } from "@espalier/core";
import { isFloatType } from "./number-formats.js";
import { storedNames } from "./parameter-names.js";
import type { StoredTensor } from "./safetensors-header.js";
import type { TensorSource } from "./safetensors-reader.js";

/** How the tensors of a file are the parameters of a model. */
export interface TensorMatch {
  /** The stored tensor of each parameter, by the parameter's name. */
  readonly parameters: ReadonlyMap<string, StoredTensor>;
  /** Stored tensors that are no parameters, and are not needed. */
  readonly leftOut: readonly { readonly tensor: StoredTensor; readonly what: string }[];
  /** Stored copies of a parameter; whether they are the same is for {@link refuseUntied} to find out. */
  readonly ties: readonly { readonly tensor: StoredTensor; readonly what: string; readonly tiedTo: string }[];
}

/** What a model expects of its file. */
export interface ExpectedTensors {
  readonly parameters: readonly ParameterSpec[];
  readonly foreign: readonly ForeignTensor[];
  /** Further tensors to leave out: those whose name begins like this. */
  readonly leaveOut: readonly string[];
}

/**
 * Finds each parameter's tensor and explains every tensor that is left. Reads names, types and shapes alone; no data.
 *
 * @throws UsageError ESPALIER_TENSORS_DIFFER saying everything that differs: missing tensors, other shapes and types,
 * tensors that nobody knows
 */
export function matchTensors(weights: TensorSource, expected: ExpectedTensors): TensorMatch {
  const parameters = new Map<string, StoredTensor>();
  const used = new Set<string>();
  const differences: string[] = [];
  const missing: ParameterSpec[] = [];
  for (const spec of expected.parameters) {
    const tied = expected.foreign.filter(
      ({ treatment }) => typeof treatment === "object" && treatment.tiedTo === spec.name,
    );
    const [first, ...others] = storedNames(weights, spec.name);
    if (first === undefined) {
      missing.push(spec);
      continue;
    }
    const tensor = weights.tensors.get(first)!;
    used.add(first);
    parameters.set(spec.name, tensor);
    for (const other of others) {
      if (tied.some(({ name }) => name.test(other))) continue;
      used.add(other);
      differences.push(`tensors "${first}" and "${other}" are the same parameter`);
    }
    const difference = differenceOf(tensor, spec);
    if (difference !== null) differences.push(difference);
  }
  if (missing.length > 0) differences.unshift(describeMissing(missing, expected.parameters));

  const leftOut: { tensor: StoredTensor; what: string }[] = [];
  const ties: { tensor: StoredTensor; what: string; tiedTo: string }[] = [];
  const unknown: StoredTensor[] = [];
  for (const tensor of weights.tensors.values()) {
    if (used.has(tensor.name)) continue;
    const known = expected.foreign.find(({ name }) => name.test(tensor.name));
    if (expected.leaveOut.some((start) => tensor.name.startsWith(start)))
      leftOut.push({ tensor, what: "as asked for" });
    else if (known === undefined) unknown.push(tensor);
    else if (known.treatment === "refuse")
      differences.push(`tensor "${tensor.name}" is ${known.what}, which is not computed`);
    else if (known.treatment === "leave-out") leftOut.push({ tensor, what: known.what });
    else {
      const { tiedTo } = known.treatment;
      const original = parameters.get(tiedTo);
      const shapes = original === undefined ? null : [shapeText(tensor), shapeText(original)];
      if (shapes !== null && shapes[0] !== shapes[1])
        differences.push(
          `tensor "${tensor.name}" (${known.what}) of shape ${shapes[0]} is untied from "${original!.name}" of shape ${shapes[1]}`,
        );
      else ties.push({ tensor, what: known.what, tiedTo });
    }
  }
  const further = furtherLayers(unknown, expected.parameters);
  if (further !== null) differences.push(further);
  else if (unknown.length > 0)
    differences.push(
      `${list(unknown.map((tensor) => `"${tensor.name}" ${shapeText(tensor)}`))} belong${unknown.length === 1 ? "s" : ""} to nothing that config.json describes`,
    );
  if (differences.length > 0) throw differ(weights.file, differences, { missing, unknown, used });
  return { parameters, leftOut, ties };
}

function differenceOf(tensor: StoredTensor, spec: ParameterSpec): string | null {
  if (!isFloatType(tensor.type))
    return `tensor "${tensor.name}" has the type ${tensor.type}, floating-point numbers are expected`;
  const { shape } = tensor;
  if (shape.length === spec.shape.length && shape.every((size, axis) => size === spec.shape[axis]))
    return null;
  const axes =
    shape.length === spec.shape.length
      ? spec.axes
          .map((role, axis) => `${axisNames[role]} ${shape[axis]} instead of ${spec.shape[axis]}`)
          .filter((_, axis) => shape[axis] !== spec.shape[axis])
      : [`${shape.length} axes instead of ${spec.shape.length}`];
  return `tensor "${tensor.name}" has the shape ${shapeText(tensor)}, but config.json asks for [${spec.shape.join(",")}]: ${axes.join(", ")}`;
}

const axisNames: { readonly [Role in ParameterSpec["axes"][number]]: string } = {
  vocabulary: "vocabulary",
  positions: "positions",
  tokenTypes: "token types",
  hidden: "hidden size",
  heads: "attention channels",
  qkv: "query, key and value channels",
  intermediate: "intermediate size",
};

function describeMissing(missing: readonly ParameterSpec[], all: readonly ParameterSpec[]): string {
  const names = missing.map(({ name }) => `"${name}"`);
  if (missing.length === all.length)
    return `none of the ${all.length} parameters is there; expected are names like ${list(names)}`;
  return `${missing.length} of ${all.length} parameters ${missing.length === 1 ? "is" : "are"} missing: ${list(names)}`;
}

function differ(
  file: string,
  differences: readonly string[],
  { missing, unknown, used }: Differing,
): UsageError {
  const lines = differences.slice(0, 12);
  if (differences.length > lines.length) lines.push(`and ${differences.length - lines.length} more`);
  const isHeadless = missing.length > 0 && missing.every(({ name }) => name.startsWith("cls."));
  const hint = isHeadless
    ? "it was saved without its masked-LM head; transformers makes a fresh one: BertForMaskedLM.from_pretrained(DIR).save_pretrained(DIR2)"
    : unknown.length > 0 && differences.length === 1
      ? `if the model can do without: ${importWithout(file, ownStart(unknown[0]!.name, used))}`
      : undefined;
  return new UsageError(
    "ESPALIER_TENSORS_DIFFER",
    `${file} does not hold the model that config.json describes:\n  - ${lines.join("\n  - ")}`,
    { file, ...(hint === undefined ? {} : { hint }) },
  );
}

interface Differing {
  readonly missing: readonly ParameterSpec[];
  readonly unknown: readonly StoredTensor[];
  /** The stored names of parameters. */
  readonly used: ReadonlySet<string>;
}

/** The command that makes a folder without some tensors, which every other command takes. */
function importWithout(file: string, start: string): string {
  return `espalier import ${dirname(file)} --leave-out ${start} -o DIR`;
}

/** The shortest dotted beginning of a name that no parameter's has. */
function ownStart(name: string, used: ReadonlySet<string>): string {
  const parts = name.split(".");
  for (let length = 1; length < parts.length; length++) {
    const start = `${parts.slice(0, length).join(".")}.`;
    if (![...used].some((parameter) => parameter.startsWith(start))) return start;
  }
  return name;
}

/** What to say where all that is left are layers beyond the depth that config.json gives. */
function furtherLayers(
  unknown: readonly StoredTensor[],
  parameters: readonly ParameterSpec[],
): string | null {
  const first = parameters.find(({ layer }) => layer === 0);
  if (first === undefined || unknown.length === 0) return null;
  // `transformer.h.`, of which a file may lack the base model's prefix.
  const start = first.name.slice(0, -`0.${first.suffix}`.length);
  const starts = [start, start.slice(start.indexOf(".") + 1)];
  const depth = Math.max(...parameters.map(({ layer }) => layer ?? 0)) + 1;
  const indices = unknown.map(({ name }) => {
    const found = starts.find((each) => name.startsWith(each));
    return found === undefined ? Number.NaN : Number.parseInt(name.slice(found.length), 10);
  });
  if (!indices.every((index) => index >= depth)) return null;
  return `it has ${Math.max(...indices) + 1} layers, but config.json describes ${depth}`;
}

/** `[2,3]` */
function shapeText({ shape }: StoredTensor): string {
  return `[${shape.join(",")}]`;
}

/** The first few, and how many more. */
function list(items: readonly string[], most = 4): string {
  const shown = items.slice(0, most).join(", ");
  return items.length > most ? `${shown} and ${items.length - most} more` : shown;
}

/**
 * Compares stored copies of tied weights with the parameter that they are a copy of, piece by piece.
 *
 * @throws UsageError ESPALIER_WEIGHTS_UNTIED with the largest difference and where it is
 */
export async function refuseUntied(weights: TensorSource, match: TensorMatch): Promise<void> {
  for (const { tensor, what, tiedTo } of match.ties) {
    const original = match.parameters.get(tiedTo);
    if (original === undefined) continue;
    const { differing, largest, at } = await compare(weights, tensor, original);
    if (differing === 0) continue;
    const total = tensor.shape.reduce((product, size) => product * size, 1);
    throw new UsageError(
      "ESPALIER_WEIGHTS_UNTIED",
      `tensor "${tensor.name}" (${what}) is untied from "${original.name}": ${differing} of ${total} numbers differ, by up to ${largest.toPrecision(3)} (in row ${Math.floor(at / (tensor.shape[1] ?? 1))}); only tied weights are computed`,
      {
        file: weights.file,
        key: tensor.name,
        hint: `to go on with "${original.name}" for both: ${importWithout(weights.file, tensor.name)}`,
      },
    );
  }
}

async function compare(
  weights: TensorSource,
  one: StoredTensor,
  other: StoredTensor,
): Promise<{ differing: number; largest: number; at: number }> {
  const found = { differing: 0, largest: 0, at: 0 };
  let position = 0;
  for await (const [a, b] of inStep(weights, one, other)) {
    for (let index = 0; index < a.length; index++) {
      const difference = Math.abs(a[index]! - b[index]!);
      if (difference === 0) continue;
      found.differing++;
      // NaN is a difference, too, and larger than any.
      if (difference > found.largest || Number.isNaN(difference)) {
        found.largest = difference;
        found.at = position + index;
      }
    }
    position += a.length;
  }
  return found;
}

/** Two tensors of the same shape, side by side. Pieces are as long as one another where the element types are the same. */
async function* inStep(
  weights: TensorSource,
  one: StoredTensor,
  other: StoredTensor,
): AsyncGenerator<readonly [Float32Array, Float32Array]> {
  if (one.type !== other.type) {
    yield [await weights.readFloats(one.name), await weights.readFloats(other.name)];
    return;
  }
  const others = weights.floatPieces(other.name)[Symbol.asyncIterator]();
  for await (const piece of weights.floatPieces(one.name)) {
    const next = await others.next();
    if (next.done) return;
    yield [floatView(piece), floatView(next.value)];
  }
}

function floatView(bytes: Uint8Array): Float32Array {
  return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
}
