import {
  matchTensors,
  type OpenCheckpoint,
  refuseUntied,
  storedName,
  type TensorSource,
  type TensorToWrite,
} from "@espalier/checkpoints";
import {
  EspalierError,
  type JsonObject,
  type ModelConfig,
  type ModelFamily,
  type ParameterSpec,
  type TrainingParameters,
  UsageError,
} from "@espalier/core";
import { disposeParameters } from "@espalier/growth";
import * as tf from "@tensorflow/tfjs";

const momentSlots = { firstMoment: "first_moment", secondMoment: "second_moment" } as const;
const stepCountPrefix = "step_count";

/**
 * The family and config that a Hugging Face config describes.
 *
 * @throws UsageError ESPALIER_FAMILY_UNKNOWN if none of the families has that `model_type`
 */
export function recogniseModel(
  huggingFaceConfig: JsonObject,
  families: readonly ModelFamily[],
  file: string,
): { readonly family: ModelFamily; readonly config: ModelConfig } {
  const type = huggingFaceConfig.model_type;
  const family = families.find((candidate) => candidate.modelType === type);
  if (family === undefined)
    throw new UsageError(
      "ESPALIER_FAMILY_UNKNOWN",
      `${file} has the model_type ${JSON.stringify(type ?? null)}; known are ${families.map((each) => each.modelType).join(", ")}`,
      { file, key: "model_type" },
    );
  return { family, config: family.fromHuggingFace(huggingFaceConfig) };
}

/**
 * A checkpoint's weights on the device.
 *
 * @returns in the family's order; the caller owns them
 * @throws EspalierError ESPALIER_CHECKPOINT_SHAPE naming tensor, expected and found shape; ESPALIER_TENSOR_MISSING
 * @throws UsageError ESPALIER_TENSORS_DIFFER, ESPALIER_WEIGHTS_UNTIED if a Hugging Face folder holds another model than its
 * config describes
 */
export async function loadWeights(
  checkpoint: OpenCheckpoint,
  family: ModelFamily,
  config: ModelConfig,
): Promise<Map<string, tf.Tensor>> {
  await refuseOtherModel(checkpoint, family);
  return readWeights(checkpoint, family.parameters(config));
}

async function readWeights(
  checkpoint: OpenCheckpoint,
  specs: readonly ParameterSpec[],
): Promise<Map<string, tf.Tensor>> {
  const weights = new Map<string, tf.Tensor>();
  // What the headers say is held against the model before anything is allocated.
  for (const spec of specs) storedTensor(checkpoint.weights, spec.name, spec.shape);
  try {
    for (const spec of specs)
      weights.set(spec.name, await loadTensor(checkpoint.weights, spec.name, spec.shape));
    return weights;
  } catch (error) {
    tf.dispose([...weights.values()]);
    throw error;
  }
}

/**
 * A checkpoint's weights with their moments and step counts, which are zero where there are none or they are not wanted.
 *
 * @param moments `required` where a run goes on from it
 * @throws EspalierError as {@link loadWeights}
 */
export async function loadTrainingParameters(
  checkpoint: OpenCheckpoint,
  family: ModelFamily,
  config: ModelConfig,
  moments: "required" | "if-present" | "none",
): Promise<TrainingParameters> {
  const { optimizer } = checkpoint;
  if (optimizer === null && moments === "required")
    throw new EspalierError(
      "ESPALIER_CHECKPOINT_DAMAGED",
      `${checkpoint.folder} has no optimizer.safetensors, without which a run cannot go on`,
      { file: checkpoint.folder },
    );
  const source = moments === "none" ? null : optimizer;
  const parameters: TrainingParameters = new Map();
  const specs = family.parameters(config);
  await refuseOtherModel(checkpoint, family);
  for (const { name, shape } of specs) {
    storedTensor(checkpoint.weights, name, shape);
    if (source === null) continue;
    for (const prefix of Object.values(momentSlots)) storedTensor(source, `${prefix}.${name}`, shape);
    storedTensor(source, `${stepCountPrefix}.${name}`, []);
  }
  const weights = await readWeights(checkpoint, specs);
  try {
    for (const [name, weight] of weights) {
      const slot = (prefix: string, shape: readonly number[]): Promise<tf.Tensor> | tf.Tensor =>
        source === null ? tf.zeros([...shape]) : loadTensor(source, `${prefix}.${name}`, shape);
      parameters.set(name, {
        weight,
        firstMoment: await slot(momentSlots.firstMoment, weight.shape),
        secondMoment: await slot(momentSlots.secondMoment, weight.shape),
        stepCount: await slot(stepCountPrefix, []),
      });
    }
    return parameters;
  } catch (error) {
    for (const [name, weight] of weights) if (!parameters.has(name)) weight.dispose();
    disposeParameters(parameters);
    throw error;
  }
}

/** Weights as tensors to write, each read from the device when its turn comes. */
export function weightsToWrite(weights: Iterable<readonly [string, tf.Tensor]>): TensorToWrite[] {
  return [...weights].map(([name, tensor]) => toWrite(name, tensor));
}

/** Moments and step counts as tensors to write. */
export function momentsToWrite(parameters: TrainingParameters): TensorToWrite[] {
  return [...parameters].flatMap(([name, state]) => [
    toWrite(`${momentSlots.firstMoment}.${name}`, state.firstMoment),
    toWrite(`${momentSlots.secondMoment}.${name}`, state.secondMoment),
    toWrite(`${stepCountPrefix}.${name}`, state.stepCount),
  ]);
}

/** Whether weight decay applies to a parameter, by name. */
export function decayOf(family: ModelFamily, config: ModelConfig): ReadonlyMap<string, boolean> {
  return new Map(family.parameters(config).map((spec: ParameterSpec) => [spec.name, spec.decay]));
}

function toWrite(name: string, tensor: tf.Tensor): TensorToWrite {
  return { name, type: "F32", shape: tensor.shape, data: () => tensor.data<"float32">() };
}

/**
 * Whoever made a Hugging Face folder may have put more into it than the family computes: to pass that over in silence would
 * be to train another model. What we wrote ourselves holds nothing else.
 */
async function refuseOtherModel(checkpoint: OpenCheckpoint, family: ModelFamily): Promise<void> {
  if (checkpoint.kind !== "huggingface") return;
  const match = matchTensors(checkpoint.weights, {
    parameters: family.parameters(family.fromHuggingFace(checkpoint.config)),
    foreign: family.foreignTensors ?? [],
    leaveOut: [],
  });
  await refuseUntied(checkpoint.weights, match);
}

/** The name under which a tensor is stored, its shape checked where it is there; reads the header alone. */
function storedTensor(source: TensorSource, name: string, shape: readonly number[]): string {
  const stored = storedName(source, name) ?? name;
  const found = source.tensors.get(stored);
  if (
    found &&
    (found.shape.length !== shape.length || found.shape.some((size, axis) => size !== shape[axis]))
  )
    throw new EspalierError(
      "ESPALIER_CHECKPOINT_SHAPE",
      `tensor "${stored}" in ${source.file} has the shape [${found.shape.join(",")}], but [${shape.join(",")}] is expected`,
      { file: source.file, key: stored },
    );
  return stored;
}

async function loadTensor(source: TensorSource, name: string, shape: readonly number[]): Promise<tf.Tensor> {
  const stored = storedTensor(source, name, shape);
  return tf.tensor(await source.readFloats(stored), [...shape], "float32");
}
