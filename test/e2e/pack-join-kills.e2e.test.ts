/** A join that is killed: nothing is lost, nothing is published twice, no blank is left (the soak has the long form). */
import { it } from "vitest";
import { killJoined, openJoinGround, openPackGround } from "../soak/pack-kills.ts";
import { has } from "../support/gantry.ts";

it.skipIf(!has("zstd") || !has("tar"))(
  "ends as one that nobody disturbed (needs tar, zstd)",
  { timeout: 180_000 },
  async () => {
    const plain = await openPackGround("tar.zst", 24);
    for (const files of [1, 2] as const) {
      const ground = await openJoinGround(plain, "tar.zst", files);
      const moments = [0, 0.5].map((part) => ({
        writing: true,
        thenMs: ground.writingMs * part,
        thenGet: part > 0 === (files === 1),
      }));
      for (const moment of moments) await killJoined(ground, "tar.zst", [moment]);
    }
  },
);
