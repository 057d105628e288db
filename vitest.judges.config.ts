import { defineConfig } from "vitest/config";

// Other people's clients against the sandbox: one suite at a time, since each measures what it alone asked for.
export default defineConfig({
  test: {
    globalSetup: ["test/support/built.ts"],
    include: ["test/judges/**/*.judge.ts"],
    fileParallelism: false,
    testTimeout: 5 * 60_000,
    hookTimeout: 5 * 60_000,
  },
});
