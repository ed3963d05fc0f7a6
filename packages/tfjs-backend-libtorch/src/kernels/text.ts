import {
  backend_util,
  type StaticRegexReplaceAttrs,
  type StringNGramsAttrs,
  type StringNGramsInputs,
  type StringSplitAttrs,
  type StringSplitInputs,
  type StringToHashBucketFastAttrs,
  type StringToHashBucketFastInputs,
  type UnaryInputs,
  util,
} from "@tensorflow/tfjs";
import { shared } from "@tensorflow/tfjs-backend-cpu";
import { type Kernel, kernel } from "../kernel.js";
import { numbers, written } from "./host.js";

const nGrams = kernel<StringNGramsInputs, StringNGramsAttrs>(
  "StringNGrams",
  (frame, { data, dataSplits }, attrs) => {
    const [grams, splits] = shared.stringNGramsImpl(
      frame.backend.strings(data.dataId),
      numbers(frame, dataSplits) as Int32Array,
      attrs.separator,
      attrs.nGramWidths,
      attrs.leftPad,
      attrs.rightPad,
      attrs.padWidth,
      attrs.preserveShortSequences,
    );
    return [
      written(frame, grams, [grams.length], "string"),
      written(frame, splits, dataSplits.shape, "int32"),
    ];
  },
);

const split = kernel<StringSplitInputs, StringSplitAttrs>(
  "StringSplit",
  (frame, { input, delimiter }, { skipEmpty }) => {
    util.assert(input.shape.length === 1, () => `Input must be a vector, got shape: ${input.shape}`);
    util.assert(
      delimiter.shape.length === 0,
      () => `Delimiter must be a scalar, got shape: ${delimiter.shape}`,
    );
    const [separator = new Uint8Array()] = frame.backend.strings(delimiter.dataId);
    const strings = frame.backend.strings(input.dataId);
    const [indices, parts, shape] = shared.stringSplitImpl(strings, separator, skipEmpty);
    return [
      written(frame, indices, [parts.length, 2], "int32"),
      written(frame, parts, [parts.length], "string"),
      written(frame, shape, [2], "int32"),
    ];
  },
);

const toHashBucket = kernel<StringToHashBucketFastInputs, StringToHashBucketFastAttrs>(
  "StringToHashBucketFast",
  (frame, { input }, { numBuckets }) => {
    util.assert(numBuckets > 0, () => "Number of buckets must be at least 1");
    const buckets = shared.stringToHashBucketFastImpl(frame.backend.strings(input.dataId), numBuckets);
    return written(frame, buckets, input.shape, "int32");
  },
);

const regexReplace = kernel<UnaryInputs, StaticRegexReplaceAttrs>(
  "StaticRegexReplace",
  (frame, { x }, { pattern, rewrite, replaceGlobal }) => {
    const expression = new RegExp(pattern, replaceGlobal ? "g" : "");
    const texts = backend_util.fromUint8ToStringArray(frame.backend.strings(x.dataId));
    const replaced = texts.map((text) => util.encodeString(text.replace(expression, rewrite)));
    return written(frame, replaced, x.shape, "string");
  },
);

/** Functions of strings, which are kept and worked on by the host. */
export const textKernels: readonly Kernel[] = [nGrams, split, toHashBucket, regexReplace];
