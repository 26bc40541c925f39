// Compiles standard JSON from stdin to stdout with the pinned npm compiler; imports resolve in node_modules only. Of a list
// of inputs, each output is a line: a compiler that is warm takes a fraction of the time. build.py and the planted bugs of
// benchmarks/ call it.
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

function compile(input) {
  const output = JSON.parse(solc.compile(JSON.stringify(input), { import: findImport }));
  return JSON.stringify({ compiler: solc.version(), ...output });
}

const input = JSON.parse(readFileSync(0, "utf8"));
for (const each of Array.isArray(input) ? input : [input]) process.stdout.write(compile(each) + "\n");
