// A vitest reporter: writes what `npm test` sums up to the file named by GANTRY_SUITE_REPORT.
// vitest's own JSON leaves out the reason given to `ctx.skip(reason)`.

import { writeFileSync } from "node:fs";
import { stripVTControlCharacters } from "node:util";

/** What a reader needs of an error: its message, the difference, and the line of ours where it happened. */
function text(error) {
  const [frame] = String(error?.stack ?? "").match(/^\s+at (?!.*node_modules|.*node:).*$/m) ?? [];
  const diff = stripVTControlCharacters(error?.diff ?? "")
    .split("\n")
    .slice(0, 24);
  return [`${error?.name ?? "Error"}: ${error?.message ?? error}`, ...diff, frame ?? ""]
    .filter((line) => line.trim() !== "")
    .join("\n");
}

export default class SuiteReport {
  onTestRunEnd(modules, unhandledErrors) {
    const tests = [];
    for (const module of modules) {
      const file = module.relativeModuleId;
      const broken = (name, errors) => {
        if (errors.length > 0) tests.push({ file, name, state: "failed", errors: errors.map(text) });
      };
      broken("(the file itself)", module.errors());
      for (const suite of module.children.allSuites())
        broken(`${suite.fullName} (its hooks)`, suite.errors());
      for (const test of module.children.allTests()) {
        const { state, note, errors } = test.result();
        const top = test.fullName.split(" > ")[0];
        tests.push({ file, name: test.fullName, top, state, note, errors: (errors ?? []).map(text) });
      }
    }
    for (const error of unhandledErrors)
      tests.push({ file: "", name: "(an error outside every test)", state: "failed", errors: [text(error)] });
    writeFileSync(process.env.GANTRY_SUITE_REPORT, JSON.stringify(tests));
  }
}
