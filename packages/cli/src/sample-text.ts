import { stream, UsageError } from "@espalier/core";
import { generate, loadWeights } from "@espalier/trainer";
import * as tf from "@tensorflow/tfjs";
import { openModel } from "./checkpoint-model.js";
import { loadRegistry } from "./composition-root.js";
import type { EngineOptions } from "./engine-options.js";
import { readTokenizer } from "./read-tokenizer.js";
import { loadEngine } from "./run/engine.js";

/** How text is drawn. */
export interface SamplingOptions extends EngineOptions {
  readonly prompt: string;
  readonly tokens: number;
  readonly temperature: number;
  readonly topK?: number;
  readonly seed: number;
  readonly tokenizer?: string;
}

/**
 * The prompt, then what continues it, piece by piece; nothing where it fails before.
 *
 * @throws UsageError if the model is not causal, or there is no tokenizer
 */
export async function* sampleText(
  path: string,
  options: SamplingOptions,
  note: (text: string) => void,
): AsyncGenerator<string> {
  const { checkpoint, family, config } = await openModel(path, await loadRegistry(), note);
  try {
    if (!family.causal)
      throw new UsageError(
        "ESPALIER_SAMPLE_NOT_CAUSAL",
        `the checkpoint "${path}" is a ${family.name}, which predicts masked tokens and continues no text`,
        { file: path },
      );
    const tokenizerFile = options.tokenizer ?? checkpoint.tokenizerFile;
    if (tokenizerFile === null)
      throw new UsageError("ESPALIER_TOKENIZER_MISSING", `the checkpoint "${path}" has no tokenizer.json`, {
        file: path,
        hint: "name one with --tokenizer",
      });
    const tokenizer = await readTokenizer(tokenizerFile);
    const prompt = [...(await tokenizer.encode(options.prompt))];
    // An empty prompt begins a document.
    if (prompt.length === 0 && tokenizer.info.endOfText !== null) prompt.push(tokenizer.info.endOfText);
    await loadEngine(
      {
        backend: options.backend ?? "auto",
        device: options.device ?? "auto",
        threads: options.threads ?? "auto",
      },
      note,
    );
    const weights = await loadWeights(checkpoint, family, config);
    try {
      yield options.prompt;
      const tokens = generate({
        family,
        config,
        weights,
        prompt,
        newTokens: options.tokens,
        temperature: options.temperature,
        topK: options.topK ?? null,
        endOfText: tokenizer.info.endOfText,
        random: stream(options.seed).fork("sample"),
      });
      // A character may take several tokens: what is complete so far is said, the rest waits.
      const drawn: number[] = [];
      let said = "";
      for await (const token of tokens) {
        drawn.push(token);
        const text = tokenizer.decode(drawn);
        if (text.endsWith("\ufffd") || !text.startsWith(said)) continue;
        yield text.slice(said.length);
        said = text;
      }
      const text = tokenizer.decode(drawn);
      if (text !== said && text.startsWith(said)) yield text.slice(said.length);
    } finally {
      tf.dispose([...weights.values()]);
    }
  } finally {
    await checkpoint.close();
  }
}
