/**
 * A program of its own, started by set-up: loads the backend named by its argument and computes with it. Its last line
 * of output is JSON, `{}` or `{message, hint}`; a crash of the library ends this process instead of the user's.
 */
import { EspalierError } from "@espalier/core";
import { loadBackend } from "./load-backend.js";

try {
  await loadBackend({ backend: process.argv[2] });
  console.log("{}");
} catch (error) {
  const message = error instanceof Error ? error.message : String(error);
  console.log(JSON.stringify({ message, hint: error instanceof EspalierError ? error.hint : undefined }));
  process.exitCode = 1;
}
