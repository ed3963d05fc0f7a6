import sys

from transformers import AutoTokenizer, GPT2LMHeadModel

folder = sys.argv[1]  # what `espalier export` wrote
model = GPT2LMHeadModel.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)
prompt = tokenizer("the people", return_tensors="pt")
print(tokenizer.decode(model.generate(**prompt, max_new_tokens=6, do_sample=False)[0]))

model.save_pretrained(f"{folder}-trained-on")  # for `espalier import`
tokenizer.save_pretrained(f"{folder}-trained-on")
