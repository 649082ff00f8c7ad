// Builds the screen into `dist/`: its pages, their scripts and style under names that change with what is in them, and the SDK for pages
// (`../sdk/js`) into `dist/sdk/` under names that do not; beside each file its form in brotli and gzip. Files that are as they were are not written, so that cargo compiles nothing anew.
import { build } from "esbuild";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

const root = dirname(fileURLToPath(import.meta.url));
const dist = join(root, "dist");

async function bundle() {
  const { outputFiles, metafile } = await build({
    absWorkingDir: root, entryPoints: { screen: "src/main.tsx" }, outdir: "dist/assets", write: false, bundle: true, splitting: true, format: "esm",
    minify: true, target: "es2022", jsx: "automatic", jsxImportSource: "preact", entryNames: "[name]-[hash]", chunkNames: "[name]-[hash]",
    legalComments: "none", logLevel: "warning", metafile: true, inject: ["src/first.ts"],
  });
  needed = needed_at_once(metafile.outputs);
  return assets(outputFiles);
}

function assets(outputFiles) {
  return new Map(outputFiles.map((file) => [`assets/${file.path.split("/").pop()}`, Buffer.from(file.contents)]));
}

/** What asks before the rest is there: one small file of its own, from the sources of the pages, without what draws. */
async function early() {
  const still = join(root, "src/still.ts");
  const { outputFiles, metafile } = await build({
    absWorkingDir: root, entryPoints: { early: "src/early.ts" }, outdir: "dist/assets", write: false, bundle: true, format: "iife", minify: true, target: "es2022",
    jsx: "automatic", jsxImportSource: "preact", entryNames: "[name]-[hash]", legalComments: "none", logLevel: "warning", metafile: true,
    alias: Object.fromEntries(["preact", "preact/hooks", "preact/jsx-runtime", "@preact/signals"].map((name) => [name, still])),
  });
  const pages = metafile.inputs["src/early.ts"].imports.flatMap(({ path }) => /^src\/pages\/(\w+)\.tsx$/.exec(path)?.[1] ?? []);
  asks_early = new Set(pages.map((name) => (name === "overview" ? "index" : name)));
  return assets(outputFiles);
}

/** Our SDK: for a script tag, and as a module for pages and for Node.js. */
async function sdk() {
  const forms = [["script", "iife", "pulse.js"], ["index", "esm", "pulse.mjs"]];
  const built = forms.map(async ([entry, format, name]) => {
    const { outputFiles } = await build({
      absWorkingDir: join(root, "../sdk/js"), entryPoints: [`src/${entry}.ts`], write: false, bundle: true, format, minify: true, target: "es2020",
      legalComments: "none", logLevel: "warning",
    });
    return [`sdk/${name}`, Buffer.from(outputFiles[0].contents)];
  });
  return Promise.all(built);
}

/** The files that a page is made of beside its entry, by its name: what is there names them, so that all of them are fetched at once. */
let needed = new Map();
/** The pages that have something to ask before that, by the same names. */
let asks_early = new Set();

function needed_at_once(outputs) {
  const with_imports = (path) => {
    const found = new Set([path]);
    for (const file of found) {
      for (const { path: imported, kind } of outputs[file].imports) if (kind === "import-statement") found.add(imported);
    }
    return found;
  };
  const entries = Object.keys(outputs).filter((path) => outputs[path].entryPoint);
  const main = entries.find((path) => outputs[path].entryPoint === "src/main.tsx");
  const first = with_imports(main);
  const files = (paths) => [...paths].filter((path) => path !== main).map((path) => path.split("/").pop());
  const pages = entries.flatMap((path) => {
    const [, name] = /^src\/pages\/(\w+)\.tsx$/.exec(outputs[path].entryPoint) ?? [];
    // A shared board is at two addresses.
    const names = name === "shared" ? ["shared", "embed"] : name ? [name] : [];
    return names.map((name) => [name, files(new Set([...first, ...with_imports(path)]))]);
  });
  return new Map([["index", files(first)], ...pages]);
}

/** The page itself: what a browser is told first, and which files it needs at once. */
function page(files, name) {
  const named = (ending, of = "screen") => [...files.keys()].find((path) => path.startsWith(`assets/${of}-`) && path.endsWith(ending));
  const html = readFileSync(join(root, "src/index.html"), "utf8");
  const preload = needed.get(name).map((file) => `<link rel="modulepreload" href="/assets/${file}">\n`).join("");
  const early = asks_early.has(name) ? `<script async fetchpriority="high" src="/${named(".js", "early")}"></script>\n` : "";
  return Buffer.from(html.replace("SCRIPT", `/${named(".js")}`).replace("STYLE", `/${named(".css")}`).replace("<link rel=\"stylesheet\"", `${early}$&`).replace("</head>", `${preload}</head>`));
}

function compressed(files) {
  const all = new Map();
  for (const [path, bytes] of files) {
    all.set(path, bytes);
    all.set(`${path}.br`, brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 11 } }));
    all.set(`${path}.gz`, gzipSync(bytes, { level: 9 }));
  }
  return all;
}

function write(files) {
  let written = 0;
  for (const folder of ["", "assets", "sdk"]) {
    mkdirSync(join(dist, folder), { recursive: true });
    for (const entry of readdirSync(join(dist, folder), { withFileTypes: true })) {
      const path = join(folder, entry.name);
      if (entry.isFile() && entry.name !== ".gitignore" && !files.has(path)) rmSync(join(dist, path));
    }
  }
  for (const [path, bytes] of files) {
    const to = join(dist, path);
    if (existsSync(to) && readFileSync(to).equals(bytes)) continue;
    writeFileSync(to, bytes);
    written += 1;
  }
  return written;
}

/** What the build is made from, as one hash: it is not done again for the same. */
function sources() {
  const hash = createHash("sha256");
  const add = (folder) => {
    for (const entry of readdirSync(folder, { withFileTypes: true }).sort((left, right) => (left.name < right.name ? -1 : 1))) {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) add(path);
      else hash.update(entry.name).update(readFileSync(path));
    }
  };
  ["src", "styles", "../sdk/js/src"].forEach((folder) => add(join(root, folder)));
  return hash.update(readFileSync(join(root, "package-lock.json"))).update(readFileSync(join(root, "build.mjs"))).digest("hex");
}

const stamp = join(dist, ".gitignore");
const known = `*\n!.gitignore\n`;
const note = join(dist, ".sources");
const state = sources();
const is_current = existsSync(join(dist, "index.html")) && existsSync(note) && readFileSync(note, "utf8") === state;
if (process.argv.includes("--check")) {
  if (!is_current) console.error("web/dist is not of these sources: run `make web`");
  process.exit(is_current ? 0 : 1);
}
if (!process.argv.includes("--force") && is_current) process.exit(0);
const files = new Map([...(await early()), ...(await bundle())]);
for (const name of needed.keys()) files.set(`${name}.html`, page(files, name));
const ours = await sdk();
ours.forEach(([path, bytes]) => files.set(path, bytes));
const written = write(compressed(files));
if (!existsSync(stamp)) writeFileSync(stamp, known);
writeFileSync(note, state);
const size = (files) => (files.reduce((sum, bytes) => sum + gzipSync(bytes, { level: 9 }).length, 0) / 1000).toFixed(1);
console.log(`screen and SDK: ${files.size} files, ${size([...files.values()])} kB compressed, ${written} written; ${ours.map(([path, bytes]) => `${path} ${size([bytes])} kB`).join(", ")}`);
