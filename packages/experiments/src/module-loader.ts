import { createRequire } from "node:module";
import { extname } from "node:path";
import { pathToFileURL } from "node:url";
import { EspalierError } from "@espalier/core";

/**
 * Imports a module by its absolute path. TypeScript is compiled in memory (Node 20 runs none), together with the files
 * that it imports by relative path; packages stay what they are and are found from the module's own folder.
 *
 * @throws EspalierError ESPALIER_MODULE_FAILED, with what the module or the compiler said
 */
export async function importModule(path: string): Promise<{ readonly default?: unknown }> {
  try {
    return await import(isTypeScript(path) ? await compiled(path) : pathToFileURL(path).href);
  } catch (cause) {
    throw new EspalierError("ESPALIER_MODULE_FAILED", firstLine(cause), { file: path, cause });
  }
}

function isTypeScript(path: string): boolean {
  return extname(path) === ".ts" || extname(path) === ".mts";
}

async function compiled(path: string): Promise<string> {
  const { build } = await import("esbuild");
  const result = await build({
    entryPoints: [path],
    bundle: true,
    write: false,
    format: "esm",
    platform: "node",
    target: "node20",
    logLevel: "silent",
    sourcemap: "inline",
    plugins: [
      {
        name: "packages-by-url",
        setup(context) {
          // A module without a file cannot name packages, only addresses: each package becomes its file's.
          context.onResolve({ filter: /^[^./]/ }, ({ path: specifier, importer, kind }) => {
            if (kind === "entry-point") return undefined;
            if (specifier.startsWith("node:")) return { path: specifier, external: true };
            const path = locatePackage(specifier, importer);
            // A workspace package may be TypeScript itself (its sources, in tests): it is compiled along.
            return isTypeScript(path) ? { path } : { path: pathToFileURL(path).href, external: true };
          });
        },
      },
    ],
  });
  const code = result.outputFiles[0]?.text ?? "";
  return `data:text/javascript;base64,${Buffer.from(code).toString("base64")}`;
}

// A definition outside of any project still finds the packages of this one.
function locatePackage(specifier: string, importer: string): string {
  try {
    return createRequire(importer).resolve(specifier);
  } catch {
    return createRequire(import.meta.url).resolve(specifier);
  }
}

function firstLine(cause: unknown): string {
  return (cause instanceof Error ? cause.message : String(cause)).split("\n")[0] ?? "";
}
