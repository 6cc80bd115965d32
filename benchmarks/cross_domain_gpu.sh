#!/bin/bash
# The whole cross-domain table with the published settings on one GPU: full sets, five seeds, every arm.
#
#   SSL_DATA_DIR=/data TEXT=hf:google-bert/bert-base-uncased benchmarks/cross_domain_gpu.sh runs/table
#
# TEXT is the text encoder (a name on the hub, or hf:FOLDER for all-mpnet-base-v2 and the like). What was measured stays:
# after an interruption the same command goes on.
set -euo pipefail
out=${1:-runs/table}
text=${TEXT:-hf:google-bert/bert-base-uncased}
run() { [ -f "$1/summary.json" ] || python -m ssl_suite run objective=mlm model=small out="$1" "${@:2}"; }

# Encoders made for the domain, pre-trained by this suite. Yeast sees the histone windows unlabelled; E. coli does not.
run "$out/ssl-yeast" modality=dna data=yeast modality.max_length=512 train.steps=20000 train.tokens_per_batch=65536
run "$out/ssl-ecoli" modality=dna data=ecoli536 modality.max_length=512 train.steps=20000 train.tokens_per_batch=65536
run "$out/ssl-protein" modality=protein data=swissprot2014_sample modality.max_length=512 train.steps=20000 \
    train.tokens_per_batch=65536
run "$out/ssl-music" modality=music data=pretrain_classical modality.tokenizer=pitch modality.max_length=130 \
    train.steps=5000 train.tokens_per_batch=65536

python -m ssl_suite bench cross_domain budget=paper text="$text" out="$out/bench" \
    ssl.dna="$out/ssl-yeast" ssl.protein="$out/ssl-protein" ssl.music="$out/ssl-music"
python -m ssl_suite bench cross_domain budget=paper text="$text" out="$out/bench" arms=BERT keep_special=false
python -m ssl_suite bench cross_domain budget=paper out="$out/bench" arms=specific-SSL task=h3,h4,h3k9ac,splice \
    ssl.dna="$out/ssl-ecoli"
python -m ssl_suite board verify
python -m ssl_suite board render
