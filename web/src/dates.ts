// The slider over the record: its place is the time, its steps are passes.
import type { Pass } from "./api";
import { extent } from "./chart";
import { by } from "./dom";
import { passWords } from "./words";

const KEYS: Record<string, number> = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 };

export class Dates {
  private passes: Pass[] = [];
  private at = -1;
  private slider = by<HTMLInputElement>("date");

  constructor(private onChange: (pass: Pass) => void) {
    this.slider.addEventListener("input", () => this.go(this.nearest(Number(this.slider.value))));
    this.slider.addEventListener("change", () => this.place());
    this.slider.addEventListener("keydown", (event) => {
      const step = KEYS[event.key] ?? (event.key === "Home" ? -Infinity : event.key === "End" ? Infinity : 0);
      if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      this.go(this.at + step);
      this.place();
    });
    for (const [id, step] of [["previous", -1], ["next", 1]] as const)
      by(id).addEventListener("click", () => {
        this.go(this.at + step);
        this.place();
      });
  }

  show(passes: Pass[], selected: Pass | null): void {
    this.passes = passes;
    this.at = selected ? passes.indexOf(selected) : -1;
    const none = passes.length === 0;
    this.slider.disabled = none;
    [this.slider.min, this.slider.max] = extent(passes).map(String) as [string, string];
    this.tell();
    this.place();
  }

  private go(wanted: number): void {
    const at = Math.min(Math.max(wanted, 0), this.passes.length - 1);
    const pass = this.passes[at];
    if (!pass || at === this.at) return;
    this.at = at;
    this.tell();
    this.onChange(pass);
  }

  private nearest(time: number): number {
    let best = 0;
    this.passes.forEach((pass, index) => {
      if (Math.abs(Date.parse(pass.time) - time) < Math.abs(Date.parse(this.passes[best]!.time) - time)) best = index;
    });
    return best;
  }

  private tell(): void {
    const pass = this.passes[this.at];
    this.slider.setAttribute("aria-valuetext", pass ? passWords(pass) : "no pass");
    by<HTMLButtonElement>("previous").disabled = this.at <= 0;
    by<HTMLButtonElement>("next").disabled = this.at < 0 || this.at >= this.passes.length - 1;
  }

  private place(): void {
    const pass = this.passes[this.at];
    if (pass) this.slider.value = String(Date.parse(pass.time));
  }
}
