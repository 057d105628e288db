import { defineConfig } from "vitest/config";

// Live archives are asked only on demand: GANTRY_LIVE=1 npx vitest run live
const live = process.env.GANTRY_LIVE === "1" ? [] : ["**/*.live.test.ts"];

export default defineConfig({
  test: {
    // Builds once, before any test's time runs; it asks only for the times of files when nothing changed.
    globalSetup: ["test/support/built.ts"],
    include: ["src/**/*.test.ts", "test/**/*.test.ts"],
    exclude: ["**/node_modules/**", "**/.cache/**", "dist/**", ...live],
    testTimeout: 60_000,
    hookTimeout: 120_000,
    // Suites start programs of their own and wait for them; more at once only run into time limits.
    maxWorkers: 2,
  },
});
