"""What a recipe will cost for several numbers of rows, before anything is paid. No call is made.

python examples/price_of_a_recipe.py laptop
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import speed_assets as speed

name = sys.argv[1] if len(sys.argv) > 1 else "laptop"
print(f"{'rows asked for':>14}  {'calls':>7}  {'calls a 1,000 rows':>18}  {'money, likely':>13}")
for times in (1, 2, 4):
    rows = {task: times * count for task, count in speed.load_recipe(name).senior_data.rows.model_dump().items()}
    recipe = speed.load_recipe(name, changes={"senior_data.rows": rows})
    with TemporaryDirectory() as home:
        planned = speed.plan(recipe, Path(home)).as_json()
    asked = sum(rows.values())
    money = "no prices" if planned["money"] is None else f"{planned['money']:.2f} {planned['currency'] or ''}"
    print(f"{asked:>14,}  {planned['calls']:>7,}  {1000 * planned['calls'] / asked:>18.0f}  {money:>13}")
