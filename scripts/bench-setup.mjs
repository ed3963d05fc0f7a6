// `npm run bench:setup`: the Python environment of the benchmark's peers, `.venv-reference`.
import { setUpReferenceEnvironment } from "../benchmarks/reference-environment.mjs";
import { root } from "./programs.mjs";

const found = setUpReferenceEnvironment(root, console.error);
if ("missing" in found) {
  console.error(found.missing);
  process.exitCode = 1;
} else console.log(`the peers are ready: ${found.python}`);
