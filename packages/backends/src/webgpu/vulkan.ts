import { existsSync } from "node:fs";
import { readdir } from "node:fs/promises";
import path from "node:path";

/** Where Vulkan's loader looks for drivers on Linux, a JSON file each. */
const DRIVER_FOLDERS = ["/usr/share/vulkan/icd.d", "/usr/local/share/vulkan/icd.d", "/etc/vulkan/icd.d"];

/** SwiftShader, Vulkan in software, as browsers ship it; it is not where the loader looks. */
const SOFTWARE_DRIVERS = [
  "/usr/lib/chromium/vk_swiftshader_icd.json",
  "/usr/lib64/chromium-browser/vk_swiftshader_icd.json",
  "/usr/lib/chromium-browser/vk_swiftshader_icd.json",
  "/opt/google/chrome/vk_swiftshader_icd.json",
  "/opt/microsoft/msedge/vk_swiftshader_icd.json",
];

/** Names of drivers, given by the user: the loader then takes these and no others. */
const CHOICES = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"];

/** Whether WebGPU goes through Vulkan here; elsewhere it is a part of the operating system. */
export const usesVulkan = process.platform !== "darwin" && process.platform !== "win32";

/** Whether Vulkan's loader, the library that finds the drivers, is installed. */
export function hasVulkanLoader(): boolean {
  const architecture = process.arch === "arm64" ? "aarch64" : "x86_64";
  const folders = [
    ...(process.env.LD_LIBRARY_PATH ?? "").split(":"),
    `/usr/lib/${architecture}-linux-gnu`,
    `/lib/${architecture}-linux-gnu`,
    "/usr/lib64",
    "/usr/lib",
    "/usr/local/lib",
    "/run/opengl-driver/lib",
  ];
  return folders.some((folder) => folder !== "" && existsSync(path.join(folder, "libvulkan.so.1")));
}

/** What decides which drivers the loader finds: a cached answer holds as long as this stays. */
export async function driverIdentity(): Promise<string> {
  const chosen = CHOICES.map((name) => process.env[name] ?? "");
  const listed = await Promise.all(
    DRIVER_FOLDERS.map((folder) =>
      readdir(folder).then(
        (names) => names.sort(),
        () => [],
      ),
    ),
  );
  return JSON.stringify([chosen, listed, softwareDriver()]);
}

/** A software driver that has to be named to the loader; null where there is none or the user named drivers. */
export function softwareDriver(): string | null {
  if (!usesVulkan || CHOICES.some((name) => (process.env[name] ?? "") !== "")) return null;
  return SOFTWARE_DRIVERS.find((file) => existsSync(file)) ?? null;
}
