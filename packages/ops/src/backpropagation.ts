import * as tf from "@tensorflow/tfjs";
import { fusedKernel } from "./kernel.js";

type TapeNode = ReturnType<typeof tf.engine>["state"]["activeTape"][number];

/**
 * Runs a computation and adds its gradients to sums, walking TensorFlow.js's tape backwards.
 *
 * It differentiates whatever TensorFlow.js's own `grads` does, by the same gradient functions, but owns memory better:
 * what a node saved, and the gradient that came in, are freed as soon as the node has used them, for plain operations
 * too; and the gradients of a variable that is used several times (shared layers, tied embeddings, micro-steps) are
 * added in place where the engine can.
 *
 * @typeParam Key - names a variable; usually its parameter's name
 * @param compute makes the value; what it makes beside it is disposed
 * @param variables what to differentiate by; the tensors are leaves of the computation
 * @param dy the gradient of the value, of its shape; stays the caller's
 * @param sums gradients so far. A variable that the value does not depend on gets no entry. Tensors in it may be changed
 * in place or replaced, the old ones being disposed; the caller owns what it holds afterwards
 * @returns the value, the caller's
 */
export function backpropagate<Key, Value extends tf.Tensor>(
  compute: () => Value,
  variables: ReadonlyMap<Key, tf.Tensor>,
  dy: tf.Tensor,
  sums: Map<Key, tf.Tensor>,
): Value {
  if (tf.engine().state.gradientDepth > 0) return nested(compute, variables, dy, sums);
  const tape: TapeNode[] = [];
  try {
    const value = record(compute, tape);
    try {
      tf.tidy(() => {
        walk(tape, variables, value, dy, sums);
        return [...sums.values()];
      });
    } catch (error) {
      value.dispose();
      throw error;
    }
    return value;
  } finally {
    for (const node of tape) release(node);
  }
}

/** Runs a computation with the tape on. What was recorded is in `tape` even if it throws. */
function record<Value extends tf.Tensor>(compute: () => Value, tape: TapeNode[]): Value {
  const { state } = tf.engine();
  const before = state.activeTape;
  state.activeTape = tape;
  state.gradientDepth++;
  try {
    return tf.tidy(compute);
  } finally {
    state.gradientDepth--;
    state.activeTape = before;
  }
}

function walk<Key>(
  tape: readonly TapeNode[],
  variables: ReadonlyMap<Key, tf.Tensor>,
  value: tf.Tensor,
  dy: tf.Tensor,
  sums: Map<Key, tf.Tensor>,
): void {
  const keys = new Map<number, Key[]>();
  for (const [key, { id }] of variables) keys.set(id, [...(keys.get(id) ?? []), key]);
  const path = nodesBetween(tape, keys, value);
  // Gradients of what lies between, by tensor. Each is the walk's own, and complete when its node's turn comes.
  const pending = new Map<number, tf.Tensor>();
  const add = (id: number, gradient: tf.Tensor): void => {
    const names = keys.get(id);
    if (names === undefined) addInto(pending, id, gradient);
    else
      for (const [index, key] of names.entries())
        addInto(sums, key, index === 0 ? gradient : gradient.clone());
  };
  add(value.id, dy.clone());
  for (let index = tape.length - 1; index >= 0; index--) {
    const node = tape[index]!;
    const inputs = path.get(node);
    if (inputs !== undefined) {
      const incoming = node.outputs.map(({ id }) => pending.get(id));
      for (const [position, gradient] of gradientsOf(node, inputs, incoming).entries())
        add(inputs[position]![1].id, gradient);
      for (const { id } of node.outputs) pending.delete(id);
      tf.dispose(incoming.filter((tensor) => tensor !== undefined));
    }
    release(node);
  }
}

type NamedInput = readonly [name: string, tensor: tf.Tensor];

/** Nodes that lead from a variable to the value, with those of their inputs that depend on a variable. */
function nodesBetween(
  tape: readonly TapeNode[],
  variables: { has(id: number): boolean },
  value: tf.Tensor,
): Map<TapeNode, readonly NamedInput[]> {
  const dependent = new Set<number>();
  const inputsOf = new Map<TapeNode, readonly NamedInput[]>();
  for (const node of tape) {
    const inputs = (Object.entries(node.inputs) as [string, tf.Tensor | null | undefined][]).filter(
      (input): input is [string, tf.Tensor] =>
        input[1] != null && (variables.has(input[1].id) || dependent.has(input[1].id)),
    );
    if (inputs.length === 0) continue;
    inputsOf.set(node, inputs);
    for (const { id } of node.outputs) dependent.add(id);
  }
  const wanted = new Set([value.id]);
  const path = new Map<TapeNode, readonly NamedInput[]>();
  for (let index = tape.length - 1; index >= 0; index--) {
    const node = tape[index]!;
    const inputs = inputsOf.get(node);
    if (inputs === undefined || !node.outputs.some(({ id }) => wanted.has(id))) continue;
    path.set(node, inputs);
    for (const [, { id }] of inputs) wanted.add(id);
  }
  return path;
}

/**
 * The gradients of a node's inputs, each a tensor of the walk's own.
 *
 * @param incoming gradients of the outputs; undefined where the value does not depend on one
 */
function gradientsOf(
  node: TapeNode,
  inputs: readonly NamedInput[],
  incoming: readonly (tf.Tensor | undefined)[],
): tf.Tensor[] {
  const { gradient, kernelName } = node;
  if (gradient === undefined)
    throw new Error(`cannot compute a gradient: TensorFlow.js has none for ${kernelName}`);
  return tf.tidy(() => {
    const scope = tf.engine().state.activeScope.id;
    const functions = gradient(incoming as tf.Tensor[]);
    const given = new Set<tf.Tensor>();
    return inputs.map(([name, input]) => {
      const compute = functions[name];
      if (compute === undefined)
        throw new Error(`cannot compute a gradient: ${kernelName} has none for its input ${name}`);
      const found = tf.tidy(compute);
      checkGradient(found, input, `${kernelName}, input ${name}`);
      // A gradient function may hand on what came in, or something that it saved, or one tensor for two inputs.
      const isOwn = found.scopeId === scope && !found.kept && !given.has(found);
      const own = isOwn ? found : found.clone();
      given.add(own);
      return own;
    });
  });
}

function checkGradient(gradient: tf.Tensor, input: tf.Tensor, place: string): void {
  if (gradient.dtype !== "float32")
    throw new Error(`the gradient of ${place} must be float32, but is ${gradient.dtype}`);
  if (!tf.util.arraysEqual(gradient.shape, input.shape))
    throw new Error(`the gradient of ${place} has shape [${gradient.shape}], the input [${input.shape}]`);
}

/** Adds a term to the sum under a key and frees it, or takes it over as the sum's beginning. */
function addInto<Key>(sums: Map<Key, tf.Tensor>, key: Key, term: tf.Tensor): void {
  const sum = sums.get(key);
  if (sum === undefined) {
    sums.set(key, term);
    return;
  }
  const kernel = fusedKernel("EspalierAccumulate");
  if (kernel) kernel({ sum, term }, {});
  else {
    sums.set(key, tf.add(sum, term));
    sum.dispose();
  }
  term.dispose();
}

/** Frees what a node saved; what was freed before stays freed. */
function release({ saved }: TapeNode): void {
  for (const tensor of saved ?? []) tensor.dispose();
}

/** Within another tape everything may be needed again: TensorFlow.js's own walk, which frees nothing. */
function nested<Key, Value extends tf.Tensor>(
  compute: () => Value,
  variables: ReadonlyMap<Key, tf.Tensor>,
  dy: tf.Tensor,
  sums: Map<Key, tf.Tensor>,
): Value {
  const { value, grads } = tf.engine().gradients(compute, [...variables.values()], dy, true);
  const found = grads as (tf.Tensor | null | undefined)[];
  for (const [index, key] of [...variables.keys()].entries()) {
    const gradient = found[index];
    if (!gradient) continue;
    const sum = sums.get(key);
    sums.set(key, sum === undefined ? gradient : tf.add(sum, gradient));
  }
  return value as Value;
}
