import { defineConfig } from "vitest/config";

// Long seeded runs: one at a time, so that they measure themselves and not each other.
export default defineConfig({
  test: {
    include: ["test/soak/**/*.soak.ts"],
    fileParallelism: false,
    testTimeout: 60 * 60_000,
    hookTimeout: 10 * 60_000,
  },
});
