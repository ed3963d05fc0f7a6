#!/usr/bin/env node
// Plain JavaScript, and committed: npm links no command whose file is missing when it installs.
import { existsSync } from "node:fs";
import * as module from "node:module";

// Node 22.1 and later keep compiled code between starts.
module.enableCompileCache?.();

const main = new URL("../dist/main.js", import.meta.url);
if (existsSync(main)) {
  const { main: run } = await import(main.href);
  await run(process.argv.slice(2));
} else {
  console.error("espalier is not built yet: run `npm start` or `npm test` once, or `npm run build`");
  process.exitCode = 1;
}
