// Our SDK as npm has it: packed, installed into an empty application, imported, and its types held to what they promise. Says "ok" if all is so.
const assert = require("assert");
const fs = require("fs");
const os = require("os");
const path = require("path");
const { execFileSync } = require("child_process");

const root = path.join(__dirname, "../.."), sdk = path.join(root, "sdk/js"), built = path.join(root, "web/dist/sdk");
const tsc = path.join(root, "web/node_modules/.bin/tsc");
const folder = fs.mkdtempSync(path.join(os.tmpdir(), "pulse-sdk-"));
const run = (program, given, cwd = folder) => execFileSync(program, given, { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });

// What `prepack` does, from what is built already.
const source = path.join(folder, "sdk"), dist = path.join(source, "dist");
fs.mkdirSync(dist, { recursive: true });
assert.ok(fs.readFileSync(path.join(sdk, "LICENSE")).equals(fs.readFileSync(path.join(root, "LICENSE"))), "the licence is another than the repository's");
for (const file of ["package.json", "README.md", "LICENSE"]) fs.copyFileSync(path.join(sdk, file), path.join(source, file));
for (const file of ["pulse.js", "pulse.mjs"]) fs.copyFileSync(path.join(built, file), path.join(dist, file));
run(tsc, ["--project", path.join(sdk, "tsconfig.json"), "--outDir", dist]);
const [{ filename, files }] = JSON.parse(run("npm", ["pack", "--ignore-scripts", "--json", source]));
const names = files.map(({ path }) => path);
for (const file of ["package.json", "README.md", "LICENSE", "dist/pulse.js", "dist/pulse.mjs", "dist/index.d.ts", "dist/types.d.ts"]) assert.ok(names.includes(file), `${file} is not in ${names}`);
assert.ok(names.every((name) => /^(package\.json|README\.md|LICENSE|dist\/[\w.]+\.(js|mjs|d\.ts))$/.test(name)), names.join());

const app = path.join(folder, "app");
fs.mkdirSync(app);
fs.writeFileSync(path.join(app, "package.json"), '{"name": "app", "private": true, "type": "module"}');
run("npm", ["install", "--offline", "--ignore-scripts", "--no-audit", "--no-fund", path.join(folder, filename)], app);
const { dependencies = {} } = JSON.parse(fs.readFileSync(path.join(app, "node_modules/@pulse-analytics/sdk/package.json")));
assert.deepStrictEqual(dependencies, {});
fs.writeFileSync(path.join(app, "use.js"), `import { createPulse } from "@pulse-analytics/sdk";
const problems = [];
const pulse = createPulse({ key: "k", host: "http://127.0.0.1:9", onError: ({ code }) => problems.push(code) });
pulse.track("order", { total: 12.5 }, { userId: "ada" });
console.log(await pulse.close(1), problems.join());`);
assert.strictEqual(run("node", ["use.js"], app).trim(), "false unreachable");

// Events that have types keep to them; a line that must not compile and does is an error too.
fs.writeFileSync(path.join(app, "types.ts"), `import { createPulse, type Pulse, type Problem, type Store } from "@pulse-analytics/sdk";
interface Events { order: { total: number }; signup: { plan?: string } }
const pulse: Pulse<Events> = createPulse<Events>({ key: "k", host: "https://pulse.example", onError: (problem: Problem) => void problem.code });
pulse.track("order", { total: 12.5 }, { userId: "ada", timestamp: new Date() });
pulse.track("signup");
// @ts-expect-error There is no such event.
pulse.track("ordr", { total: 1 });
// @ts-expect-error It is a number.
pulse.track("order", { total: "12.5" });
// @ts-expect-error A key is needed.
createPulse({ host: "https://pulse.example" });
// @ts-expect-error There is no such option.
createPulse({ key: "k", host: "https://pulse.example", flushAfter: 1 });
const untyped = createPulse({ key: "k", host: "https://pulse.example", store: null as unknown as Store });
untyped.track("anything", { at: "all", and: { more: [1] } });
const sent: Promise<boolean> = untyped.close();
void sent;`);
run(tsc, ["--noEmit", "--strict", "--target", "es2022", "--module", "nodenext", "--skipLibCheck", "false", "--lib", "es2022,dom", "types.ts"], app);

fs.rmSync(folder, { recursive: true });
console.log("ok");
