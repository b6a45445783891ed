// AsyncAPI's own parser on one document: every complaint on a line, exit code 1 where one is an error.
const { readFileSync } = require('node:fs');
const { Parser } = require('@asyncapi/parser');

const ERROR = 0;

new Parser().parse(readFileSync(process.argv[2], 'utf8')).then(({ diagnostics }) => {
  for (const { severity, code, path, message } of diagnostics) {
    console.log(`${severity === ERROR ? 'error' : 'note'} ${code} at ${path.join('.')}: ${message}`);
  }
  process.exitCode = diagnostics.some(({ severity }) => severity === ERROR) ? 1 : 0;
});
