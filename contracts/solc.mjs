// Compiles standard JSON from stdin to stdout with the pinned npm compiler; imports resolve in node_modules only.
// build.py is its one caller.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const solc = createRequire(import.meta.url)("solc");

function findImport(path) {
  try {
    return { contents: readFileSync(join(here, "node_modules", path), "utf8") };
  } catch {
    return { error: `not found: ${path}; run npm ci in contracts/` };
  }
}

const input = JSON.parse(readFileSync(0, "utf8"));
const output = JSON.parse(solc.compile(JSON.stringify(input), { import: findImport }));
process.stdout.write(JSON.stringify({ compiler: solc.version(), ...output }));
