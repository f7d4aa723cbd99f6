// Light and dark: as the system has it, until somebody chooses.
import { by } from "./dom";

const KEY = "cubekit-theme";
const dark = window.matchMedia("(prefers-color-scheme: dark)");

export function startTheme(onChange: () => void): void {
  const root = document.documentElement;
  const button = by<HTMLButtonElement>("theme");
  const isDark = (): boolean => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
  const name = (): void => {
    button.textContent = isDark() ? "Light" : "Dark";
    button.setAttribute("aria-label", `Show the page ${isDark() ? "light" : "dark"}`);
  };
  const stored = read();
  if (stored) root.dataset.theme = stored;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try {
      localStorage.setItem(KEY, root.dataset.theme);
    } catch {
      // Without storage the choice lasts as long as the page.
    }
    name();
    onChange();
  });
  dark.addEventListener("change", () => {
    name();
    onChange();
  });
  name();
}

function read(): string | null {
  try {
    const stored = localStorage.getItem(KEY);
    return stored === "light" || stored === "dark" ? stored : null;
  } catch {
    return null;
  }
}
