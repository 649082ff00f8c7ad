// The types of the schemas of `/openapi.json`, which the screen's client uses: `node types.mjs DOCUMENT` prints them.
import { readFileSync } from "node:fs";
import openapi, { astToString } from "openapi-typescript";

const { openapi: version, info, components } = JSON.parse(readFileSync(process.argv[2], "utf8"));
// Paths, parameters and answers are what the client's own functions know.
const document = { openapi: version, info, paths: {}, components: { schemas: components.schemas } };
const ast = await openapi(document, { alphabetize: true, emptyObjectsUnknown: true, rootTypes: true, rootTypesNoSchemaPrefix: true, silent: true });
process.stdout.write(`// Generated from \`/openapi.json\`: \`PULSE_WRITE_TYPES=1 cargo test --test it types_of_the_client\` writes it anew.\n${astToString(ast)}`);
